# Tables of all numbers, figures, and the page that a study ends in.
from calandria.study.reporting import SURROGATE_FIGURES

REPORT_RUNS = STUDY.report_runs
DRAWN_RUN = REPORT_RUNS[-1] if REPORT_RUNS else None


# What is read, and of which sample or film it is, comes with the rule's settings; inputs only say what must be there.
rule tabulate_results:
    input:
        list(
            dict.fromkeys(
                path for source in STUDY.sources for path in source.files.values()
            )
        ),
    output:
        csv=report("<results>/report/results.csv", category="tables"),
        parquet="<results>/report/results.parquet",
        frames="<results>/report/frames.parquet",
        facts=report("<results>/report/facts.csv", category="tables"),
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
        mem_mb=doubling(4000),
        runtime=60,
    params:
        settings=settings_of("tabulate_results"),
        folder=lambda wildcards, output: Path(output.csv).parents[1],
    shell:
        "python -m workflow_scripts.report.tabulate_results --settings {params.settings} --folder {params.folder:q}"
        " --output-csv {output.csv} --output-parquet {output.parquet} --output-frames {output.frames}"
        " --output-facts {output.facts} 2> {log}"


if REPORT_RUNS:

    rule draw_surrogate:
        input:
            metrics=[
                f"<results>/surrogate/{film}/cd{degree}/metrics.csv"
                for film, degree in REPORT_RUNS
            ],
            losses=[
                f"<results>/surrogate/{name}_losses.csv" for name in SURROGATE.networks
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
            mem_mb=doubling(4000),
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
        results="<results>/report/results.csv",
        facts="<results>/report/facts.csv",
        figures=[figure.path for figure in STUDY.figures],
    output:
        page=report("<results>/report/index.html", category="page"),
        markdown="<results>/report/results.md",
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
        mem_mb=doubling(2000),
        runtime=10,
    params:
        settings=settings_of("write_page"),
        folder=lambda wildcards, output: Path(output.page).parents[1],
    shell:
        "python -m workflow_scripts.report.write_page --settings {params.settings} --folder {params.folder:q}"
        " --results {input.results} --facts {input.facts} --output {output.page} --output-markdown {output.markdown} 2> {log}"
