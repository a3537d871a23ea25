# DEM films: packed, dried, pressed and released by LAMMPS, or the user's own dumps; then voxels.


rule insert_particles:
    input:
        settings=STUDY.slice("calendering"),
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
        mem_mb=2000,
        runtime=30,
    params:
        seed=lambda wildcards: STUDY.film(wildcards.film).seed,
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.insert_particles"
        " --settings {input.settings} --seed {params.seed} --output {output} 2> {log}"


rule dry_film:
    input:
        settings=STUDY.slice("calendering"),
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
        mem_mb=2000,
        runtime=120,
    params:
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.dry_film"
        " --settings {input.settings} --inserted {input.inserted} --output {output} 2> {log}"


# A replicate is the same dried film moved by rounding-size amounts: two of them show what can be predicted at all.
rule perturb_film:
    input:
        settings=STUDY.slice("calendering"),
        dried=lambda wildcards: f"<results>/calendering/{STUDY.film(wildcards.film).replicate_of}/dried.data",
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
        mem_mb=1000,
        runtime=10,
    params:
        seed=lambda wildcards: STUDY.film(wildcards.film).seed,
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.perturb_film"
        " --settings {input.settings} --dried {input.dried} --seed {params.seed} --output {output} 2> {log}"


rule load_film:
    input:
        settings=STUDY.slice("calendering"),
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
        mem_mb=2000,
        runtime=240,
    params:
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.load_film"
        " --settings {input.settings} --dried {input.dried} --output-dumps {output.dumps}"
        " --output-press {output.press} --output-restarts {output.restarts} 2> {log}"


rule release_film:
    input:
        settings=STUDY.slice("calendering"),
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
        mem_mb=2000,
        runtime=240,
    params:
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.release_film"
        " --settings {input.settings} --restarts {input.restarts} --loading-dumps {input.dumps}"
        " --loading-press {input.press} --compression-degree-percent {wildcards.degree}"
        " --output-dumps {output.dumps} --output-press {output.press} 2> {log}"


# From here on a film made by LAMMPS and the user's own dumps go the same way.
rule read_dumps:
    input:
        settings=STUDY.slice("calendering"),
        dumps=lambda wildcards: STUDY.dumps(wildcards.film, int(wildcards.degree)),
        press=lambda wildcards: STUDY.press(wildcards.film, int(wildcards.degree)),
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
        mem_mb=4000,
        runtime=60,
    params:
        files=run_options,
        original=lambda wildcards: (
            ["--replicate-of", STUDY.original(wildcards.film)]
            if STUDY.original(wildcards.film)
            else []
        ),
        row=lambda wildcards: STUDY.run_overrides(wildcards.film, int(wildcards.degree)),
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.read_dumps"
        " --settings {input.settings} {params.files:q} --film {wildcards.film} {params.original:q}"
        " --compression-degree-percent {wildcards.degree} --output {output} 2> {log}"


rule voxelize_frames:
    input:
        settings=STUDY.slice("calendering"),
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
        mem_mb=4000,
        runtime=60,
    params:
        version=stage_version("calendering"),
    shell:
        "python -m workflow_scripts.calendering.voxelize_frames"
        " --settings {input.settings} --particles {input.particles} --output {output} 2> {log}"
