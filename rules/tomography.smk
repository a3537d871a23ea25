# Image stacks to labelled volumes; tables of mini-volumes.


# Where an image or a run's files are not there, the program says so: a dry run shows the whole study all the same.
rule import_volume:
    input:
        source=lambda wildcards: STUDY.source(wildcards.sample),
        settings=STUDY.slice("tomography"),
    output:
        "<results>/tomography/{sample}/labels.zarr.zip",
    log:
        "<logs>/tomography/import_volume/{sample}.log",
    benchmark:
        "<benchmarks>/tomography/import_volume/{sample}.tsv"
    conda:
        "../envs/voxels.yaml"
    container:
        image("voxels")
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        arguments=lambda wildcards: STUDY.import_arguments(wildcards.sample),
        version=stage_version("tomography"),
    shell:
        "python -m workflow_scripts.tomography.import_volume {params.arguments} --output {output} 2> {log}"


rule measure_phases:
    input:
        volume="<results>/tomography/{sample}/labels.zarr.zip",
    output:
        "<results>/tomography/{sample}/phases.json",
    log:
        "<logs>/tomography/measure_phases/{sample}.log",
    benchmark:
        "<benchmarks>/tomography/measure_phases/{sample}.tsv"
    conda:
        "../envs/voxels.yaml"
    container:
        image("voxels")
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        version=stage_version("tomography"),
    shell:
        "python -m workflow_scripts.tomography.measure_phases --volume {input.volume} --output {output} 2> {log}"
