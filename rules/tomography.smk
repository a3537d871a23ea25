# Image stacks to labelled volumes; tables of mini-volumes.


# A dry run shows the whole study before its images are there; the run itself says which one is missing.
rule report_missing_source:
    output:
        "<results>/tomography/{sample}/missing_source",
    log:
        "<logs>/tomography/report_missing_source/{sample}.log",
    benchmark:
        "<benchmarks>/tomography/report_missing_source/{sample}.tsv"
    conda:
        "../envs/voxels.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        source=lambda wildcards: STUDY.sample(wildcards.sample).path,
        sheet=STUDY.settings.tomography.samples_sheet,
    shell:
        "python -m workflow_scripts.tomography.report_missing_source"
        " --sample {wildcards.sample} --source {params.source:q} --sheet {params.sheet:q} 2> >(tee {log} >&2)"


rule import_volume:
    input:
        source=source_of,
        settings=STUDY.slice("tomography"),
    output:
        "<results>/tomography/{sample}/labels.zarr.zip",
    log:
        "<logs>/tomography/import_volume/{sample}.log",
    benchmark:
        "<benchmarks>/tomography/import_volume/{sample}.tsv"
    conda:
        "../envs/voxels.yaml"
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
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        version=stage_version("tomography"),
    shell:
        "python -m workflow_scripts.tomography.measure_phases --volume {input.volume} --output {output} 2> {log}"
