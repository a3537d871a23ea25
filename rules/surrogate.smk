# The next frame of a film from a lag window of past ones: split, search, train, predict, evaluate.
SURROGATE = STUDY.settings.surrogate
FRAMES = [
    f"<results>/calendering/{film}/cd{degree}/frames.zarr.zip"
    for film, degree in STUDY.surrogate_runs
]


rule split_films:
    input:
        frames=FRAMES,
    output:
        "<results>/surrogate/split.json",
    log:
        "<logs>/surrogate/split_films.log",
    benchmark:
        "<benchmarks>/surrogate/split_films.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        image("torch")
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings_of("split_films"),
    shell:
        "python -m workflow_scripts.surrogate.split_films"
        " --settings {params.settings} --frames {input.frames} --output {output} 2> {log}"


# The study's journal and checkpoints are no outputs: Snakemake deletes the outputs of a rule that fails.
# With a profile for clusters the program only waits for the array of workers that it submits, so it stays where Snakemake runs.
rule search_surrogate:
    input:
        split="<results>/surrogate/split.json",
        frames=FRAMES,
    output:
        trials="<results>/surrogate/search/trials.csv",
        record="<results>/surrogate/search/trials.json",
        best="<results>/surrogate/search/best.json",
        importance="<results>/surrogate/search/importance.png",
    log:
        "<logs>/surrogate/search_surrogate.log",
    benchmark:
        "<benchmarks>/surrogate/search_surrogate.tsv"
    localrule: True
    conda:
        "../envs/torch.yaml"
    threads: STUDY.settings.surrogate.search.study.threads
    resources:
        mem_mb=48000,
        runtime=2880,
        gpu=gpus(SURROGATE.device),
        launch="local",
    params:
        settings=settings_of("search_surrogate"),
        python=lambda wildcards, resources: searcher(resources),
        workers=lambda wildcards, threads, resources: search_workers(
            SURROGATE.search.study, threads, resources
        ),
        directory=f"results/{STUDY.settings.name}/scratch/search_surrogate",
    shell:
        "exec {params.python} -m workflow_scripts.surrogate.search_surrogate"
        " --settings {params.settings} --split {input.split}"
        " --frames {input.frames} --directory {params.directory} {params.workers}"
        " --output-trials {output.trials} --output-best {output.best} --output-importance {output.importance} 2> {log}"


rule train_surrogate:
    input:
        split="<results>/surrogate/split.json",
        frames=FRAMES,
        best=best_of_search,
    output:
        model="<results>/surrogate/{architecture}.pt",
        losses="<results>/surrogate/{architecture}_losses.csv",
    log:
        "<logs>/surrogate/train_surrogate/{architecture}.log",
    benchmark:
        "<benchmarks>/surrogate/train_surrogate/{architecture}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=48000,
        runtime=1440,
        gpu=gpus(SURROGATE.device),
        processes=1,
        nodes=1,
    params:
        settings=settings_of("train_surrogate"),
        trainer=lambda wildcards, threads, resources: trainer(threads, resources),
        processes=lambda wildcards, resources: processes(resources),
        best=lambda wildcards, input: f"--best {input.best}" if input.best else "",
        directory=f"results/{STUDY.settings.name}/scratch/train_surrogate_{{architecture}}",
    shell:
        "exec {params.trainer} -m workflow_scripts.surrogate.train_surrogate {params.processes}"
        " --settings {params.settings} --architecture {wildcards.architecture} --split {input.split}"
        " --frames {input.frames} {params.best} --checkpoint-directory {params.directory}"
        " --output {output.model} --output-losses {output.losses} 2> {log}"


rule predict_frames:
    input:
        unpack(predictor_inputs),
        frames="<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
    output:
        one_step="<results>/surrogate/{film}/cd{degree}/{predictor}_one_step.zarr.zip",
        rollout="<results>/surrogate/{film}/cd{degree}/{predictor}_rollout.zarr.zip",
    log:
        "<logs>/surrogate/predict_frames/{film}_cd{degree}_{predictor}.log",
    benchmark:
        "<benchmarks>/surrogate/predict_frames/{film}_cd{degree}_{predictor}.tsv"
    wildcard_constraints:
        predictor="(?!replicate)[a-z_]+",
    conda:
        "../envs/torch.yaml"
    container:
        image("torch")
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=gpus(SURROGATE.device),
    params:
        settings=settings_of("predict_frames"),
        options=predictor_options,
        outputs=prediction_outputs,
    shell:
        "python -m workflow_scripts.surrogate.predict_frames"
        " --settings {params.settings} --predictor {wildcards.predictor} --frames {input.frames} {params.options}"
        " {params.outputs} 2> {log}"


# A second run of the film sees no true frames on its way, so it has no one-step mode.
use rule predict_frames as predict_frames_of_replicate with:
    output:
        rollout="<results>/surrogate/{film}/cd{degree}/{predictor}_rollout.zarr.zip",
    wildcard_constraints:
        predictor="replicate",


rule evaluate_predictions:
    input:
        split="<results>/surrogate/split.json",
        frames="<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
        predictions=lambda wildcards: list(prediction_files(wildcards).values()),
        transport=lambda wildcards: series_tables(
            STUDY, "surrogate", wildcards.film, int(wildcards.degree)
        ),
        interfaces="<results>/transport/surrogate/{film}/cd{degree}/frames.csv",
    output:
        table="<results>/surrogate/{film}/cd{degree}/metrics.csv",
        record="<results>/surrogate/{film}/cd{degree}/metrics.json",
    log:
        "<logs>/surrogate/evaluate_predictions/{film}_cd{degree}.log",
    benchmark:
        "<benchmarks>/surrogate/evaluate_predictions/{film}_cd{degree}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        image("torch")
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings_of("evaluate_predictions"),
        named=lambda wildcards, input: [
            f"{name}={path}"
            for name, path in zip(prediction_files(wildcards), input.predictions)
        ],
    shell:
        "python -m workflow_scripts.surrogate.evaluate_predictions"
        " --settings {params.settings} --split {input.split} --frames {input.frames} --prediction {params.named:q}"
        " --transport {input.transport} --interfaces {input.interfaces} --output {output.table} 2> {log}"
