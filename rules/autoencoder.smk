# Mini-volumes of one case study, the network that encodes and rebuilds them, and how well it does.
from calandria.autoencoder import stage as autoencoder_stage

AUTOENCODER = STUDY.settings.autoencoder


rule list_mini_volumes:
    input:
        volumes=case_volumes,
    output:
        "<results>/autoencoder/{case}/w{window}_s{stride}/mini_volumes.csv",
    log:
        "<logs>/autoencoder/list_mini_volumes/{case}_w{window}_s{stride}.log",
    benchmark:
        "<benchmarks>/autoencoder/list_mini_volumes/{case}_w{window}_s{stride}.tsv"
    conda:
        "../envs/voxels.yaml"
    container:
        image("voxels")
    threads: 1
    resources:
        mem_mb=doubling(2000),
        runtime=10,
    params:
        settings=settings_of("list_mini_volumes"),
        named=named_volumes,
    shell:
        "python -m workflow_scripts.autoencoder.list_mini_volumes --settings {params.settings}"
        " --volumes {params.named:q} --output {output} 2> {log}"


rule search_autoencoder:
    input:
        volumes=case_volumes,
    output:
        trials="<results>/autoencoder/{case}/search/trials.csv",
        record="<results>/autoencoder/{case}/search/trials.json",
        best="<results>/autoencoder/{case}/search/best.json",
        importance="<results>/autoencoder/{case}/search/importance.png",
    log:
        "<logs>/autoencoder/search_autoencoder/{case}.log",
    benchmark:
        "<benchmarks>/autoencoder/search_autoencoder/{case}.tsv"
    priority: 1  # they take longest
    localrule: True
    conda:
        "../envs/torch.yaml"
    threads: AUTOENCODER.learning.search.budget.threads if AUTOENCODER.learning.search else 1
    resources:
        mem_mb=lambda wildcards, attempt: training_mb(
            AUTOENCODER.learned_bytes,
            AUTOENCODER.cache_mb,
            attempt,
            AUTOENCODER.learning.search.budget.workers,
        ),
        runtime=2880,
        gpu=gpus(AUTOENCODER.learning.device),
        launch="local",
    params:
        settings=settings_of("search_autoencoder"),
        python=lambda wildcards, resources: searcher(resources),
        workers=lambda wildcards, threads, resources: search_workers(
            AUTOENCODER.learning.search.budget, threads, resources
        ),
        control=lambda wildcards, resources: training_control(
            AUTOENCODER.learning, AUTOENCODER.cache_mb, resources
        ),
        named=named_volumes,
        directory=f"results/{STUDY.settings.name}/scratch/search_autoencoder_{{case}}",
    shell:
        "exec {params.python} -m workflow_scripts.autoencoder.search_autoencoder"
        " --settings {params.settings} --volumes {params.named:q}"
        " --directory {params.directory} {params.workers} {params.control} --output-trials {output.trials}"
        " --output-best {output.best} --output-importance {output.importance} 2> {log}"


rule train_autoencoder:
    input:
        mini_volumes="<results>/autoencoder/{case}/w{window}_s{stride}/mini_volumes.csv",
        volumes=case_volumes,
        best=lambda wildcards: autoencoder_stage.best_of_search(STUDY, wildcards.case),
    output:
        model="<results>/autoencoder/{case}/w{window}_s{stride}/model.pt",
        losses="<results>/autoencoder/{case}/w{window}_s{stride}/losses.csv",
    log:
        "<logs>/autoencoder/train_autoencoder/{case}_w{window}_s{stride}.log",
    benchmark:
        "<benchmarks>/autoencoder/train_autoencoder/{case}_w{window}_s{stride}.tsv"
    priority: 1  # they take longest
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: training_mb(
            AUTOENCODER.learned_bytes, AUTOENCODER.cache_mb, attempt
        ),
        runtime=1440,
        gpu=gpus(AUTOENCODER.learning.device),
        processes=1,
        nodes=1,
    params:
        settings=settings_of("train_autoencoder"),
        trainer=lambda wildcards, threads, resources: trainer(threads, resources),
        processes=lambda wildcards, resources: processes(resources),
        control=lambda wildcards, resources: training_control(
            AUTOENCODER.learning, AUTOENCODER.cache_mb, resources
        ),
        named=named_volumes,
        best=lambda wildcards, input: f"--best {input.best}" if input.best else "",
        directory=f"results/{STUDY.settings.name}/scratch/train_autoencoder_{{case}}_w{{window}}_s{{stride}}",
    shell:
        "exec {params.trainer} -m workflow_scripts.autoencoder.train_autoencoder {params.processes}"
        " --settings {params.settings} --mini-volumes {input.mini_volumes} --volumes {params.named:q}"
        " {params.best} --checkpoint-directory {params.directory} {params.control}"
        " --output {output.model} --output-losses {output.losses} 2> {log}"


rule encode_mini_volumes:
    input:
        model="<results>/autoencoder/{case}/w{window}_s{stride}/model.pt",
        mini_volumes="<results>/autoencoder/{case}/w{window}_s{stride}/mini_volumes.csv",
        volumes=case_volumes,
    output:
        features="<results>/autoencoder/{case}/w{window}_s{stride}/features.csv",
        reconstructions="<results>/autoencoder/{case}/w{window}_s{stride}/reconstructions.h5",
    log:
        "<logs>/autoencoder/encode_mini_volumes/{case}_w{window}_s{stride}.log",
    benchmark:
        "<benchmarks>/autoencoder/encode_mini_volumes/{case}_w{window}_s{stride}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        image("torch")
    threads: 1
    resources:
        mem_mb=doubling(8000),
        runtime=240,
        gpu=gpus(AUTOENCODER.learning.device),
    params:
        settings=settings_of("encode_mini_volumes"),
        named=named_volumes,
        cache=lambda wildcards, resources: cache_option(AUTOENCODER.cache_mb, resources),
    shell:
        "python -m workflow_scripts.autoencoder.encode_mini_volumes"
        " --settings {params.settings} {params.cache} --model {input.model} --mini-volumes {input.mini_volumes}"
        " --volumes {params.named:q} --output-features {output.features}"
        " --output-reconstructions {output.reconstructions} 2> {log}"


rule evaluate_autoencoder:
    input:
        model="<results>/autoencoder/{case}/w{window}_s{stride}/model.pt",
        features="<results>/autoencoder/{case}/w{window}_s{stride}/features.csv",
        losses="<results>/autoencoder/{case}/w{window}_s{stride}/losses.csv",
        mini_volumes="<results>/autoencoder/{case}/w{window}_s{stride}/mini_volumes.csv",
        volumes=case_volumes,
    output:
        record="<results>/autoencoder/{case}/w{window}_s{stride}/evaluation.json",
        figure="<results>/autoencoder/{case}/w{window}_s{stride}/reconstructions.png",
        losses="<results>/autoencoder/{case}/w{window}_s{stride}/losses.png",
    log:
        "<logs>/autoencoder/evaluate_autoencoder/{case}_w{window}_s{stride}.log",
    benchmark:
        "<benchmarks>/autoencoder/evaluate_autoencoder/{case}_w{window}_s{stride}.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        image("torch")
    threads: 1
    resources:
        mem_mb=doubling(8000),
        runtime=240,
        gpu=gpus(AUTOENCODER.learning.device),
    params:
        settings=settings_of("evaluate_autoencoder"),
        named=named_volumes,
        cache=lambda wildcards, resources: cache_option(AUTOENCODER.cache_mb, resources),
    shell:
        "python -m workflow_scripts.autoencoder.evaluate_autoencoder"
        " --settings {params.settings} {params.cache} --model {input.model} --features {input.features}"
        " --mini-volumes {input.mini_volumes} --volumes {params.named:q} --losses {input.losses}"
        " --output {output.record} --output-figure {output.figure} --output-loss-figure {output.losses} 2> {log}"
