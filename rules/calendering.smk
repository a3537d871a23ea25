# DEM films: packed, dried, pressed and released by LAMMPS, or the user's own dumps; then voxels.


rule insert_particles:
    output:
        "<results>/calendering/{film}/inserted.data",
    log:
        "<logs>/calendering/insert_particles/{film}.log",
    benchmark:
        "<benchmarks>/calendering/insert_particles/{film}.tsv"
    conda:
        "../envs/lammps.yaml"
    container:
        image("lammps")
    threads: 1
    resources:
        mem_mb=doubling(2000),
        runtime=30,
    params:
        settings=settings_of("insert_particles"),
    shell:
        "python -m workflow_scripts.calendering.insert_particles"
        " --settings {params.settings} --output {output} 2> {log}"


rule dry_film:
    input:
        inserted="<results>/calendering/{film}/inserted.data",
    output:
        "<results>/calendering/{film}/dried.data",
    log:
        "<logs>/calendering/dry_film/{film}.log",
    benchmark:
        "<benchmarks>/calendering/dry_film/{film}.tsv"
    wildcard_constraints:
        film=STUDY.alternatives(STUDY.packed_films),
    conda:
        "../envs/lammps.yaml"
    container:
        image("lammps")
    threads: 1
    resources:
        mem_mb=doubling(2000),
        runtime=120,
    params:
        settings=settings_of("dry_film"),
    shell:
        "python -m workflow_scripts.calendering.dry_film"
        " --settings {params.settings} --inserted {input.inserted} --output {output} 2> {log}"


# A replicate is the same dried film moved by rounding-size amounts: two of them show what can be predicted at all.
rule perturb_film:
    input:
        dried=lambda wildcards: f"<results>/calendering/{STUDY.films[wildcards.film].replicate_of}/dried.data",
    output:
        "<results>/calendering/{film}/dried.data",
    log:
        "<logs>/calendering/perturb_film/{film}.log",
    benchmark:
        "<benchmarks>/calendering/perturb_film/{film}.tsv"
    wildcard_constraints:
        film=STUDY.alternatives(STUDY.replicates),
    conda:
        "../envs/lammps.yaml"
    container:
        image("lammps")
    threads: 1
    resources:
        mem_mb=doubling(1000),
        runtime=10,
    params:
        settings=settings_of("perturb_film"),
    shell:
        "python -m workflow_scripts.calendering.perturb_film"
        " --settings {params.settings} --dried {input.dried} --output {output} 2> {log}"


rule load_film:
    input:
        dried="<results>/calendering/{film}/dried.data",
    output:
        dumps="<results>/calendering/{film}/loading.lammpstrj.gz",
        press="<results>/calendering/{film}/loading_press.csv",
        restarts="<results>/calendering/{film}/restarts.tar",
    log:
        "<logs>/calendering/load_film/{film}.log",
    benchmark:
        "<benchmarks>/calendering/load_film/{film}.tsv"
    conda:
        "../envs/lammps.yaml"
    container:
        image("lammps")
    threads: 1
    resources:
        mem_mb=doubling(2000),
        runtime=240,
    params:
        settings=settings_of("load_film"),
    shell:
        "python -m workflow_scripts.calendering.load_film"
        " --settings {params.settings} --dried {input.dried} --output-dumps {output.dumps}"
        " --output-press {output.press} --output-restarts {output.restarts} 2> {log}"


rule release_film:
    input:
        restarts="<results>/calendering/{film}/restarts.tar",
        dumps="<results>/calendering/{film}/loading.lammpstrj.gz",
        press="<results>/calendering/{film}/loading_press.csv",
    output:
        dumps="<results>/calendering/{film}/cd{degree}/dumps.lammpstrj.gz",
        press="<results>/calendering/{film}/cd{degree}/press.csv",
    log:
        "<logs>/calendering/release_film/{film}_cd{degree}.log",
    benchmark:
        "<benchmarks>/calendering/release_film/{film}_cd{degree}.tsv"
    conda:
        "../envs/lammps.yaml"
    container:
        image("lammps")
    threads: 1
    resources:
        mem_mb=doubling(2000),
        runtime=240,
    params:
        settings=settings_of("release_film"),
    shell:
        "python -m workflow_scripts.calendering.release_film"
        " --settings {params.settings} --restarts {input.restarts} --loading-dumps {input.dumps}"
        " --loading-press {input.press} --compression-degree-percent {wildcards.degree}"
        " --output-dumps {output.dumps} --output-press {output.press} 2> {log}"


# From here on a film made by LAMMPS and the user's own dumps go the same way. The user's files are no inputs of Snakemake: the
# settings hold a token that changes with their content.
rule read_dumps:
    input:
        unpack(made_dumps),
    output:
        "<results>/calendering/{film}/cd{degree}/particles.h5",
    log:
        "<logs>/calendering/read_dumps/{film}_cd{degree}.log",
    benchmark:
        "<benchmarks>/calendering/read_dumps/{film}_cd{degree}.tsv"
    conda:
        "../envs/lammps.yaml"
    container:
        image("lammps")
    threads: 1
    resources:
        mem_mb=doubling(4000),
        runtime=60,
    params:
        settings=settings_of("read_dumps"),
        files=run_options,
        inputs=STUDY.inputs_record("read_dumps", "{film}_cd{degree}"),
    shell:
        "python -m workflow_scripts.calendering.read_dumps"
        " --settings {params.settings} {params.files:q} --film {wildcards.film}"
        " --compression-degree-percent {wildcards.degree}"
        " --output {output} --output-inputs {params.inputs} 2> {log}"


rule voxelize_frames:
    input:
        particles="<results>/calendering/{film}/cd{degree}/particles.h5",
    output:
        "<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
    log:
        "<logs>/calendering/voxelize_frames/{film}_cd{degree}.log",
    benchmark:
        "<benchmarks>/calendering/voxelize_frames/{film}_cd{degree}.tsv"
    conda:
        "../envs/voxels.yaml"
    container:
        image("voxels")
    threads: 1
    resources:
        mem_mb=doubling(4000),
        runtime=60,
    params:
        settings=settings_of("voxelize_frames"),
    shell:
        "python -m workflow_scripts.calendering.voxelize_frames"
        " --settings {params.settings} --particles {input.particles} --output {output} 2> {log}"
