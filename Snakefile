# Particle dumps and tomography of battery electrodes in; trained models, transport numbers and report tables out.
#   snakemake --cores 2                                            the demo study (config/config.yaml)
#   snakemake --cores 2 --configfile config/studies/NAME.yaml      a published study at full scale, or yours
#   snakemake --profile slurm_profile                              the same on a cluster (docs/cluster.md)
from snakemake.utils import min_version

min_version("9.14")

if set(config) <= {
    "images"
}:  # a study stands alone: it is never merged into the demo's settings

    configfile: "config/config.yaml"


include: "rules/study.smk"
include: "rules/inputs.smk"
include: "rules/launching.smk"


for stage in STAGES:

    include: f"rules/{stage.name}.smk"


rule all:
    default_target: True
    input:
        STUDY.artefacts,
        [figure.path for figure in STUDY.figures],
