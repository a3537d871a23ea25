# Functions that tell rules their inputs and options; they look things up in the study and build paths. No science.
from calandria.transport.stage import diffusion, series_tables


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
        series |= prediction_files(wildcards)
    return series


def named_series(wildcards, input):
    """Return NAME=FILE words for the series of a run."""
    return [
        f"{name}={path}" for name, path in zip(series_files(wildcards), input.series)
    ]


def best_of_search(wildcards):
    """Return the search's result where the architecture is searched, else nothing."""
    searched = wildcards.architecture == SURROGATE.search.architecture
    return ["<results>/surrogate/search/best.json"] if searched else []


def predictor_inputs(wildcards):
    """Return the files that one predictor needs beside the true series."""
    run = f"cd{wildcards.degree}"
    match wildcards.predictor:
        case "model":
            return {"model": "<results>/surrogate/press_unet.pt"}
        case "paper":
            return {"model": "<results>/surrogate/paper.pt"}
        case "affine_spheres":
            return {
                "particles": f"<results>/calendering/{wildcards.film}/{run}/particles.h5"
            }
        case "replicate":
            return {
                "replicate_frames": f"<results>/calendering/{STUDY.replicate_of(wildcards.film)}/{run}/frames.zarr.zip"
            }
    return {}


def predictor_options(wildcards, input):
    """Return the options that name those files."""
    return " ".join(
        f"--{name.replace('_', '-')} {input[name]}"
        for name in predictor_inputs(wildcards)
    )


def prediction_outputs(wildcards, output):
    """Return the options that name the modes that are predicted."""
    return " ".join(
        f"--output-{mode.replace('_', '-')} {path}" for mode, path in output.items()
    )


def prediction_files(wildcards):
    """Name and file of every prediction of a run."""
    return {
        f"{predictor}:{mode}": f"<results>/surrogate/{wildcards.film}/cd{wildcards.degree}/{predictor}_{mode}.zarr.zip"
        for predictor in STUDY.predictors(wildcards.film)
        for mode in STUDY.modes(predictor)
    }


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


def straddle(wildcards):
    """Return the option that lets windows run across the samples' borders."""
    return "--straddle" if STUDY.case(wildcards.case).straddle else ""


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
            for predictor in STUDY.predictors(film)
        },
    }


def page_figures():
    """Section and caption, and file, of every figure of the page."""
    figures = {}
    if REPORT_RUNS:
        figures |= {
            f"surrogate:{caption}": f"<results>/report/surrogate_{name}.png"
            for name, caption in SURROGATE_FIGURES.items()
        }
    for case, window, stride in STUDY.mini_volume_sets:
        folder = f"<results>/autoencoder/{case}/w{window}_s{stride}"
        what = f"{case}, window {window}, stride {stride}"
        figures[
            f"autoencoder:Mini-volumes and what was rebuilt from their latent features; {what}."
        ] = f"{folder}/reconstructions.png"
        figures[f"autoencoder:Mean squared error over the epochs; {what}."] = (
            f"{folder}/losses.png"
        )
    for name, folder in SEARCHES.items():
        figures[
            f"search:How much each parameter matters, and how the search went; {name}."
        ] = f"{folder}/importance.png"
    return figures
