# Functions that tell rules their inputs and options; they look things up in the study and build paths. No science.
from calandria.surrogate.stage import prediction_files, predictors
from calandria.transport.stage import series_tables


def made_dumps(wildcards):
    """Return dumps and press table of a run that LAMMPS made; none of the user's own runs."""
    if (wildcards.film, int(wildcards.degree)) in STUDY.runs:
        return {}
    folder = f"<results>/calendering/{wildcards.film}/cd{wildcards.degree}"
    return {"dumps": f"{folder}/dumps.lammpstrj.gz", "press": f"{folder}/press.csv"}


def run_options(wildcards, input):
    """Return the options that name a run's files: as the runs sheet does, or those that the workflow made."""
    row = STUDY.runs.get((wildcards.film, int(wildcards.degree)))
    dumps, press = ([row.dumps], [row.press]) if row else ([input.dumps], [input.press])
    return ["--dumps", *dumps, *(["--press", *press] if any(press) else [])]


def series_files(wildcards):
    """Name and file of every series of a run: the true one, and where it is a test run the predicted ones."""
    run = f"{wildcards.film}/cd{wildcards.degree}"
    series = {"true": f"<results>/calendering/{run}/frames.zarr.zip"}
    if wildcards.origin == "surrogate":
        series |= prediction_files(STUDY, wildcards.film, wildcards.degree)
    return series


def named_series(wildcards, input):
    """Return NAME=FILE words for the series of a run."""
    return [
        f"{name}={path}" for name, path in zip(series_files(wildcards), input.series)
    ]


def case_volumes(wildcards):
    """Return the labelled volumes of a case study, in the order of its stack."""
    return [
        f"<results>/tomography/{sample}/labels.zarr.zip"
        for sample in STUDY.case(wildcards.case).samples
    ]


def named_volumes(wildcards, input):
    """Return NAME=FILE words for the volumes of a case study."""
    return [
        f"{sample}={path}"
        for sample, path in zip(STUDY.case(wildcards.case).samples, input.volumes)
    ]


def named(names, paths):
    """Return NAME=FILE words."""
    return [f"{name}={path}" for name, path in zip(names, paths)]


def drawn_series():
    """Name and file of the series whose last frames are drawn: the true one and the rollouts."""
    film, degree = DRAWN_RUN
    return {
        "true": f"<results>/calendering/{film}/cd{degree}/frames.zarr.zip",
        **{
            predictor: f"<results>/surrogate/{film}/cd{degree}/{predictor}_rollout.zarr.zip"
            for predictor in predictors(STUDY, film)
        },
    }
