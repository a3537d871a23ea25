# Steady diffusion through volumes, contact areas, volume fractions.


# The solver runs on MPI ranks: a profile sets launcher, ranks and nodes by the resources mpi, tasks and nodes.
rule solve_diffusion:
    input:
        volume="<results>/tomography/{sample}/labels.zarr.zip",
    output:
        "<results>/transport/{sample}/{case}_{axis}.json",
    log:
        "<logs>/transport/solve_diffusion/{sample}_{case}_{axis}.log",
    benchmark:
        "<benchmarks>/transport/solve_diffusion/{sample}_{case}_{axis}.tsv"
    conda:
        "../envs/voxels.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, input, attempt: memory_mb(
            "solve_diffusion", input.volume, attempt
        ),
        runtime=60,
        mpi="mpiexec",
        tasks=2,
    params:
        settings=settings_of("solve_diffusion"),
        python=lambda wildcards, resources: python("voxels", resources),
    shell:
        "{resources.mpi} -n {resources.tasks} {params.python} -m workflow_scripts.transport.solve_diffusion"
        " --settings {params.settings} --volume {input.volume} --case {wildcards.case}"
        " --axis {wildcards.axis} --ranks {resources.tasks} --output {output} 2> {log}"


rule solve_series:
    input:
        series=lambda wildcards: list(series_files(wildcards).values()),
    output:
        table="<results>/transport/{origin}/{film}/cd{degree}/{case}_{axis}.csv",
        record="<results>/transport/{origin}/{film}/cd{degree}/{case}_{axis}.json",
    log:
        "<logs>/transport/solve_series/{origin}_{film}_cd{degree}_{case}_{axis}.log",
    benchmark:
        "<benchmarks>/transport/solve_series/{origin}_{film}_cd{degree}_{case}_{axis}.tsv"
    wildcard_constraints:
        origin="calendering|surrogate",
    conda:
        "../envs/voxels.yaml"
    container:
        image("voxels")
    threads: 1
    resources:
        mem_mb=lambda wildcards, input, attempt: memory_mb(
            "solve_series", input.series, attempt
        ),
        runtime=240,
    params:
        settings=settings_of("solve_series"),
        named=named_series,
    shell:
        "python -m workflow_scripts.transport.solve_series"
        " --settings {params.settings} --series {params.named:q} --case {wildcards.case} --axis {wildcards.axis}"
        " --output {output.table} 2> {log}"


rule measure_frames:
    input:
        series=lambda wildcards: list(series_files(wildcards).values()),
    output:
        table="<results>/transport/{origin}/{film}/cd{degree}/frames.csv",
        record="<results>/transport/{origin}/{film}/cd{degree}/frames.json",
    log:
        "<logs>/transport/measure_frames/{origin}_{film}_cd{degree}.log",
    benchmark:
        "<benchmarks>/transport/measure_frames/{origin}_{film}_cd{degree}.tsv"
    wildcard_constraints:
        origin="calendering|surrogate",
    conda:
        "../envs/voxels.yaml"
    container:
        image("voxels")
    threads: 1
    resources:
        mem_mb=lambda wildcards, input, attempt: memory_mb(
            "measure_frames", input.series, attempt
        ),
        runtime=60,
    params:
        settings=settings_of("measure_frames"),
        named=named_series,
    shell:
        "python -m workflow_scripts.transport.measure_frames --settings {params.settings} --series {params.named:q} --output {output.table} 2> {log}"
