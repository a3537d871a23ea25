# The next frame of a film from a lag window of past ones: split, search, train, predict, evaluate.
from calandria.surrogate.stage import (
    best_of_search,
    device_of,
    prediction_files,
    predictor_files,
    predictors_with,
)

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
        mem_mb=doubling(4000),
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
        trials="<results>/surrogate/search/{network}/trials.csv",
        record="<results>/surrogate/search/{network}/trials.json",
        best="<results>/surrogate/search/{network}/best.json",
        importance="<results>/surrogate/search/{network}/importance.png",
    log:
        "<logs>/surrogate/search_surrogate/{network}.log",
    benchmark:
        "<benchmarks>/surrogate/search_surrogate/{network}.tsv"
    priority: 1  # they take longest
    localrule: True
    conda:
        "../envs/torch.yaml"
    threads: lambda wildcards: SURROGATE.network(wildcards.network).learning.search.budget.threads
    resources:
        mem_mb=lambda wildcards, input, attempt: network_memory(
            SURROGATE,
            wildcards.network,
            input.frames,
            attempt,
            SURROGATE.network(wildcards.network).learning.search.budget.workers,
        ),
        runtime=2880,
        gpu=lambda wildcards: gpus(SURROGATE.network(wildcards.network).learning.device),
        launch="local",
    params:
        settings=settings_of("search_surrogate"),
        python=lambda wildcards, resources: searcher(resources),
        workers=lambda wildcards, threads, resources: search_workers(
            SURROGATE.network(wildcards.network).learning.search.budget,
            threads,
            resources,
        ),
        control=lambda wildcards, resources: training_control(
            SURROGATE.network(wildcards.network).learning,
            SURROGATE.cache_mb,
            resources,
        ),
        directory=f"results/{STUDY.settings.name}/scratch/search_surrogate_{{network}}",
    shell:
        "exec {params.python} -m workflow_scripts.surrogate.search_surrogate"
        " --settings {params.settings} --split {input.split}"
        " --frames {input.frames} --directory {params.directory} {params.workers} {params.control}"
        " --output-trials {output.trials} --output-best {output.best} --output-importance {output.importance} 2> {log}"


rule train_surrogate:
    input:
        split="<results>/surrogate/split.json",
        frames=FRAMES,
        best=lambda wildcards: best_of_search(STUDY, wildcards.network),
    output:
        model="<results>/surrogate/{network}.pt",
        losses="<results>/surrogate/{network}_losses.csv",
    log:
        "<logs>/surrogate/train_surrogate/{network}.log",
    benchmark:
        "<benchmarks>/surrogate/train_surrogate/{network}.tsv"
    priority: 1  # they take longest
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, input, attempt: network_memory(
            SURROGATE, wildcards.network, input.frames, attempt
        ),
        runtime=2880,
        gpu=lambda wildcards: gpus(SURROGATE.network(wildcards.network).learning.device),
        processes=1,
        nodes=1,
    params:
        settings=settings_of("train_surrogate"),
        trainer=lambda wildcards, threads, resources: trainer(threads, resources),
        processes=lambda wildcards, resources: processes(resources),
        control=lambda wildcards, resources: training_control(
            SURROGATE.network(wildcards.network).learning,
            SURROGATE.cache_mb,
            resources,
        ),
        best=lambda wildcards, input: f"--best {input.best}" if input.best else "",
        directory=f"results/{STUDY.settings.name}/scratch/train_surrogate_{{network}}",
    shell:
        "exec {params.trainer} -m workflow_scripts.surrogate.train_surrogate {params.processes}"
        " --settings {params.settings} --split {input.split}"
        " --frames {input.frames} {params.best} --checkpoint-directory {params.directory} {params.control}"
        " --output {output.model} --output-losses {output.losses} 2> {log}"


rule predict_frames:
    input:
        unpack(
            lambda wildcards: predictor_files(
                STUDY, wildcards.predictor, wildcards.film, wildcards.degree
            )
        ),
        frames="<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
    output:
        one_step="<results>/surrogate/{film}/cd{degree}/{predictor}_one_step.zarr.zip",
        rollout="<results>/surrogate/{film}/cd{degree}/{predictor}_rollout.zarr.zip",
    log:
        "<logs>/surrogate/predict_frames/{film}_cd{degree}_{predictor}.log",
    benchmark:
        "<benchmarks>/surrogate/predict_frames/{film}_cd{degree}_{predictor}.tsv"
    wildcard_constraints:
        predictor=STUDY.alternatives(predictors_with(STUDY, "one_step", "rollout")),
    conda:
        "../envs/torch.yaml"
    container:
        image("torch")
    threads: 1
    resources:
        mem_mb=doubling(8000),
        runtime=120,
        gpu=lambda wildcards: gpus(device_of(STUDY, wildcards.predictor)),
    params:
        settings=settings_of("predict_frames"),
        options=lambda wildcards, input: " ".join(
            f"--{name.replace('_', '-')} {input[name]}"
            for name in SURROGATE.predictor(wildcards.predictor).needs
        ),
        outputs=lambda wildcards, output: " ".join(
            f"--output-{mode.replace('_', '-')} {path}"
            for mode, path in output.items()
        ),
    shell:
        "python -m workflow_scripts.surrogate.predict_frames"
        " --settings {params.settings} --frames {input.frames} {params.options} {params.outputs} 2> {log}"


# A second run of the film sees no true frames on its way, so it has no one-step mode.
use rule predict_frames as predict_frames_of_replicate with:
    output:
        rollout="<results>/surrogate/{film}/cd{degree}/{predictor}_rollout.zarr.zip",
    wildcard_constraints:
        predictor=STUDY.alternatives(predictors_with(STUDY, "rollout")),


rule evaluate_predictions:
    input:
        split="<results>/surrogate/split.json",
        frames="<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
        predictions=lambda wildcards: list(
            prediction_files(STUDY, wildcards.film, wildcards.degree).values()
        ),
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
        mem_mb=doubling(4000),
        runtime=60,
    params:
        settings=settings_of("evaluate_predictions"),
        named=lambda wildcards, input: named(
            prediction_files(STUDY, wildcards.film, wildcards.degree),
            input.predictions,
        ),
    shell:
        "python -m workflow_scripts.surrogate.evaluate_predictions"
        " --settings {params.settings} --split {input.split} --frames {input.frames} --prediction {params.named:q}"
        " --transport {input.transport} --interfaces {input.interfaces} --output {output.table} 2> {log}"
