# Image stacks to labelled volumes; tables of mini-volumes.


# The image is no input of Snakemake: the settings hold a token that changes with its content. Where it is missing, the program
# says so, and a dry run shows the whole study all the same.
rule import_volume:
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
        mem_mb=lambda wildcards, attempt: memory_mb(
            "import_volume", STUDY.samples[wildcards.sample].path, attempt
        ),
        runtime=60,
    params:
        settings=settings_of("import_volume"),
        inputs=STUDY.inputs_record("import_volume", "{sample}"),
    shell:
        "python -m workflow_scripts.tomography.import_volume --settings {params.settings}"
        " --output {output} --output-inputs {params.inputs} 2> {log}"


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
        mem_mb=lambda wildcards, input, attempt: memory_mb(
            "measure_phases", input.volume, attempt
        ),
        runtime=60,
    params:
        settings=settings_of("measure_phases"),
    shell:
        "python -m workflow_scripts.tomography.measure_phases --settings {params.settings} --volume {input.volume} --output {output} 2> {log}"
