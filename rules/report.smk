# Tables of all numbers, figures, and the page that a study ends in.
from calandria.surrogate import stage as surrogate_stage

REPORT_RUNS = STUDY.report_runs
DRAWN_RUN = REPORT_RUNS[-1] if REPORT_RUNS else None
DIFFUSION = diffusion(STUDY)
ALL_RUNS = STUDY.all_runs
SEARCHES = {
    **{f"surrogate {name}": path for name, path in surrogate_stage.searches(STUDY).items()},
    **{
        f"autoencoder {name}": path
        for name, path in autoencoder_stage.searches(STUDY).items()
    },
}
NOT_SEARCHED = [
    *(
        f"surrogate {name}"
        for name in (SURROGATE.networks if REPORT_RUNS else ())
        if name not in surrogate_stage.searches(STUDY)
    ),
    *(
        f"autoencoder {name}"
        for name in (AUTOENCODER.cases if STUDY.samples else ())
        if name not in autoencoder_stage.searches(STUDY)
    ),
]
SURROGATE_FIGURES = {
    "losses": "Losses over the epochs of the final training.",
    "r2": "R² of each predicted frame on the label values, void included, as the paper defines it. Below -1 the axis is cut.",
    "r2_film": "R² of the film alone: voxels that are film in the true or in the predicted frame. Below -1 the axis is cut.",
    "phases": "Volumes of pore, CBD and AM in free rollouts; black dashes: the true ones.",
    "degrees": "Last frame of free rollouts against the compression degree; black dashes: the true values. Blocked frames have no tortuosity factor.",
    "slices": "Middle slice of the last frame: true and predicted in free rollouts.",
}


# The lists of a large study are longer than a command line may be, so they come as a file of one word per line.
rule tabulate_results:
    input:
        phases=[
            f"<results>/tomography/{sample}/phases.json" for sample in STUDY.samples
        ],
        volumes=[
            f"<results>/tomography/{sample}/labels.zarr.zip"
            for sample in STUDY.samples
        ],
        diffusion=[
            f"<results>/transport/{sample}/{case}_{axis}.json"
            for sample, case, axis in DIFFUSION
        ],
        series=[
            f"<results>/calendering/{film}/cd{degree}/frames.zarr.zip"
            for film, degree in ALL_RUNS
        ],
        frames=[
            f"<results>/transport/calendering/{film}/cd{degree}/frames.csv"
            for film, degree in ALL_RUNS
        ],
        transport=[
            path
            for film, degree in ALL_RUNS
            for path in series_tables(STUDY, "calendering", film, degree)
        ],
        metrics=[
            f"<results>/surrogate/{film}/cd{degree}/metrics.csv"
            for film, degree in REPORT_RUNS
        ],
        split=["<results>/surrogate/split.json"] if REPORT_RUNS else [],
        records=[
            *(
                path.removesuffix(".csv") + ".json"
                for film, degree in ALL_RUNS
                for path in [
                    f"<results>/transport/calendering/{film}/cd{degree}/frames.csv",
                    *series_tables(STUDY, "calendering", film, degree),
                ]
            ),
            *(
                f"<results>/surrogate/{film}/cd{degree}/metrics.json"
                for film, degree in REPORT_RUNS
            ),
            *(f"{folder}/trials.json" for folder in SEARCHES.values()),
        ],
        evaluations=[
            f"<results>/autoencoder/{case}/w{window}_s{stride}/evaluation.json"
            for case, window, stride in STUDY.mini_volume_sets
        ],
        trials=[f"{folder}/trials.csv" for folder in SEARCHES.values()],
        best=[f"{folder}/best.json" for folder in SEARCHES.values()],
        published=[
            f"{PUBLISHED}/{table}.csv"
            for table in (
                "cathodes_nmc532",
                "volumes",
                "calendering_scores",
                "autoencoder_results",
                "calendering_contact_area",
            )
        ],
    output:
        csv=report("<results>/report/results.csv", category="tables"),
        markdown="<results>/report/results.md",
    log:
        "<logs>/report/tabulate_results.log",
    benchmark:
        "<benchmarks>/report/tabulate_results.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    container:
        image("workflow")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings_of("tabulate_results"),
        phases=lambda wildcards, input: named(STUDY.samples, input.phases),
        published_samples=[
            f"{name}={row.published}"
            for name, row in STUDY.samples.items()
            if row.published
        ],
        volumes=lambda wildcards, input: named(STUDY.samples, input.volumes),
        series=lambda wildcards, input: named(
            (f"{film},{degree}" for film, degree in ALL_RUNS), input.series
        ),
        diffusion=lambda wildcards, input: named(
            (",".join(key) for key in DIFFUSION), input.diffusion
        ),
        frames=lambda wildcards, input: named(
            (f"{film},{degree}" for film, degree in ALL_RUNS), input.frames
        ),
        transport=lambda wildcards, input: named(
            (
                f"{film},{degree},{Path(path).stem}"
                for film, degree in ALL_RUNS
                for path in series_tables(STUDY, "calendering", film, degree)
            ),
            input.transport,
        ),
        metrics=lambda wildcards, input: named(
            (f"{film},{degree}" for film, degree in REPORT_RUNS), input.metrics
        ),
        evaluations=lambda wildcards, input: named(
            (
                f"{case},window {window},stride {stride}"
                for case, window, stride in STUDY.mini_volume_sets
            ),
            input.evaluations,
        ),
        trials=lambda wildcards, input: named(SEARCHES, input.trials),
        published=lambda wildcards, input: Path(input.published[0]).parent,
        best=lambda wildcards, input: named(SEARCHES, input.best),
        split=lambda wildcards, input: f"--split {input.split}" if input.split else "",
        not_searched=NOT_SEARCHED,
    shell:
        "python -m workflow_scripts.report.tabulate_results --settings {params.settings}"
        " @<(printf '%s\\n' --phases {params.phases:q} --published-samples {params.published_samples:q}"
        " --volumes {params.volumes:q} --diffusion {params.diffusion:q}"
        " --frames {params.frames:q} --series {params.series:q} --transport {params.transport:q} --metrics {params.metrics:q}"
        " --evaluations {params.evaluations:q} --trials {params.trials:q} --best {params.best:q})"
        " {params.split} --not-searched {params.not_searched:q}"
        " --published {params.published:q} --output-csv {output.csv} --output-markdown {output.markdown} 2> {log}"


if REPORT_RUNS:

    rule draw_surrogate:
        input:
            metrics=[
                f"<results>/surrogate/{film}/cd{degree}/metrics.csv"
                for film, degree in REPORT_RUNS
            ],
            losses=[
                f"<results>/surrogate/{name}_losses.csv"
                for name in SURROGATE.networks
            ],
            series=list(drawn_series().values()),
            runs=[
                f"<results>/calendering/{film}/cd{degree}/frames.zarr.zip"
                for film, degree in REPORT_RUNS
            ],
        output:
            **{
                name: report(
                    f"<results>/report/surrogate_{name}.png",
                    category="surrogate",
                    labels={"figure": name},
                )
                for name in SURROGATE_FIGURES
            },
        log:
            "<logs>/report/draw_surrogate.log",
        benchmark:
            "<benchmarks>/report/draw_surrogate.tsv"
        localrule: True
        conda:
            "../envs/workflow.yaml"
        container:
            image("workflow")
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            settings=settings_of("draw_surrogate"),
            losses=lambda wildcards, input: named(SURROGATE.networks, input.losses),
            series=lambda wildcards, input: named(drawn_series(), input.series),
            runs=lambda wildcards, input: named(
                (f"{film},{degree}" for film, degree in REPORT_RUNS), input.runs
            ),
            run_name=f"{DRAWN_RUN[0]} at {DRAWN_RUN[1]} %",
            outputs=lambda wildcards, output: " ".join(
                f"--output-{name.replace('_', '-')} {output[name]}"
                for name in SURROGATE_FIGURES
            ),
        shell:
            "python -m workflow_scripts.report.draw_surrogate --settings {params.settings} --metrics {input.metrics}"
            " --losses {params.losses:q} --series {params.series:q} --runs {params.runs:q} --run-name {params.run_name:q} {params.outputs} 2> {log}"


rule write_page:
    input:
        table="<results>/report/results.csv",
        figures=list(page_figures().values()),
    output:
        report("<results>/report/index.html", category="page"),
    log:
        "<logs>/report/write_page.log",
    benchmark:
        "<benchmarks>/report/write_page.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    container:
        image("workflow")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings=settings_of("write_page"),
        figures=lambda wildcards, input: named(page_figures(), input.figures),
    shell:
        "python -m workflow_scripts.report.write_page --settings {params.settings}"
        " --table {input.table} --figures {params.figures:q} --output {output} 2> {log}"
