# How programs are started on nodes and GPUs: resources, which a profile overrides for each rule, become command lines.
# Resources trigger no rerun, nor do parameters that follow from them: the same results on another machine stay up to date.
# Launchers (mpiexec, srun, sbatch) are of the machine and stay outside of containers: their rules say `python` by what stands here.

WORKER_OPTIONS = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "qos",
    "constraint": "constraint",
    "runtime-minutes": "runtime",
    "memory-mb": "mem_mb",
    "cpus-per-worker": "cpus_per_task",
    "gpus": "gpu",
    "gpu-type": "gpu_model",
    "max-running": "max_running",
    "sbatch-options": "slurm_extra",
    "setup": "setup",
}


def python(software, resources):
    """Return the command that runs Python for a launcher: a profile's own, or in the software set's container with --sdm apptainer."""
    if resources.get("python") or not CONTAINERS:
        return resources.get("python") or "python"
    arguments = workflow.deployment_settings.apptainer_args
    return f"{exec_command(software, IMAGES, arguments)} python"


def searcher(resources):
    """Return how a search's program is started: it submits outside of containers, and runs its workers in the one that it is in."""
    return python("torch", resources) if resources.launch == "local" else "python"


def gpus(device):
    """Return the number of GPUs to ask for, one where the settings say so."""
    return int(device.startswith("cuda"))


def search_workers(search, threads, resources):
    """Return a search's options for its run and its workers: processes here, or one SLURM array."""
    control = search.run_control()
    run = f" --run-control={quote(json.dumps(control))}" if control else ""
    if resources.launch == "local":
        return f"--workers {search.workers_in(threads)}{run}"
    given = {option: resources.get(name, "") for option, name in WORKER_OPTIONS.items()}
    if (command := python("torch", resources)) != "python":
        given["worker-python"] = command
    options = [
        f"--{option}={value}"
        for option, value in given.items()
        if value not in ("", None)
    ]
    return " ".join(
        [
            f"--launch={resources.launch} --workers={resources.get('workers', search.workers)}{run}",
            *map(quote, options),
        ]
    )


def network_memory(surrogate, network, frames, attempt, trainings=1):
    """Return the memory of trainings of a network of the surrogate, by its size and that of the frames."""
    needed = surrogate.network(network).bytes_per_voxel * largest_frame(frames)
    return training_mb(needed, surrogate.cache_mb, attempt, trainings)


def trainer(threads, resources):
    """Return how a training program is started: once, by torchrun on one node, or by the srun of a profile on several.

    ``threads`` are the cores of each task of srun, and of all of torchrun's processes together, which share them.
    """
    if resources.get("mpi"):
        return f"{resources.mpi} -n {resources.tasks} --cpus-per-task={threads} {python('torch', resources)}"
    if resources.processes > 1:
        share = max(1, threads // resources.processes)
        limits = " ".join(
            f"{library}_NUM_THREADS={share}" for library in ("OMP", "MKL", "OPENBLAS")
        )
        torchrun = f"-m workflow_scripts.learning.torchrun --standalone --nproc-per-node {resources.processes}"
        return f"env {limits} {python('torch', resources)} {torchrun}"
    return python("torch", resources)


def processes(resources):
    """Return the option by which a training program checks how many processes take part."""
    number = resources.tasks if resources.get("mpi") else resources.processes
    return f"--processes {number}" if number > 1 else ""


def cache_option(cache_mb, resources):
    """Return the option for memory of data that were read; it changes no number, so it follows from resources, which trigger no rerun."""
    return f"--cache-mb {cache_mb}"


def training_control(learning, cache_mb, resources):
    """Return the options of a training that change no number."""
    return f"--checkpoint-every {learning.checkpoint_every} {cache_option(cache_mb, resources)}"
