"""A real SLURM on one machine for tests: two nodes with two cores and two GPUs each; the GPUs are empty files.

Needs root and the Debian packages ``slurmctld slurmd slurm-client munge``; no systemd. From the repository's top:

    python -m tests.helpers.slurm install     # apt-get, where something is missing
    python -m tests.helpers.slurm start       # waits until both nodes are idle
    python -m tests.helpers.slurm status
    python -m tests.helpers.slurm stop

The configuration goes to ``/etc/slurm``, where programs look for it by themselves. A file that somebody else wrote there is never touched.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calandria.base.processes import process_start
from tests.helpers.packages import install_packages

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "postgresql")  # the last one for searches in a database
REQUIRED = "CALANDRIA_TEST_CLUSTER"  # with it the tests run, and what is missing is an error
CONFIGURATION = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
STATE = Path("/var/lib/calandria_test_slurm")
MARK = "# Written by tests/helpers/slurm.py of Calandria; a SLURM for tests only.\n"
NODES = ("n1", "n2")
_daemons: list[subprocess.Popen] = []  # they go on when this process ends
CORES, GPUS = 2, 2
PORTS = {"slurmctld": 16817, "n1": 16821, "n2": 16822}
# Memory is stated, not there: rules ask for what a study at full scale needs. Requeued jobs wait for cred_expire, 120 s by default.
SLURM_CONF = """
ClusterName=calandria_test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=15
StateSaveLocation={state}/controller
SlurmctldPidFile={state}/slurmctld.run
SlurmctldLogFile={state}/slurmctld.log
SlurmdSpoolDir={state}/%n
SlurmdPidFile={state}/%n.run
SlurmdLogFile={state}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=200000,batch_sched_delay=1
JobRequeue=1
ReturnToService=2
SlurmdTimeout=600
SlurmctldTimeout=600
MessageTimeout=60
MinJobAge=300
KillWait=10
MaxArraySize=1001
"""


def unavailable() -> str | None:
    """Return why this machine's SLURM for tests cannot be used, None if it can."""
    for program in ("slurmctld", "slurmd", "sbatch", "squeue", "munged"):
        if which(program) is None:
            return f"{program} is not installed (python -m tests.helpers.slurm install)"
    if not (CONFIGURATION / "slurm.conf").exists() or foreign():
        return "the SLURM for tests is not set up (python -m tests.helpers.slurm start)"
    missing = [node for node, state in node_states().items() if state not in ("IDLE", "MIXED", "ALLOCATED")]
    return f"nodes {missing} of the SLURM for tests do not answer" if missing else None


def require() -> None:
    """Skip a test that needs SLURM unless it is asked for; then a SLURM that is missing is an error."""
    if not os.environ.get(REQUIRED):
        pytest.skip(
            f"needs the SLURM for tests, and the machine to itself: python -m tests.helpers.slurm start; {REQUIRED}=1 pytest"
        )
    if (reason := unavailable()) is not None and "do not answer" not in reason:
        raise RuntimeError(f"{reason}; {REQUIRED} is set, so this may not be skipped")


def which(program: str) -> str | None:
    """Return a program's path; daemons lie where only root's PATH leads."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def foreign() -> list[str]:
    """Return the files of the machine's configuration that would be ours and were written by somebody else."""
    paths = [CONFIGURATION / name for name in FILES]
    return [str(path) for path in paths if path.exists() and not path.read_text().startswith(MARK)]


def node_states() -> dict[str, str]:
    """Return the state of each node without flags; ``UNKNOWN`` where the controller does not answer."""
    told = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %T"], capture_output=True, text=True, check=False, timeout=120).stdout
    found = dict(line.split() for line in told.splitlines())
    return {node: found.get(node, "unknown").rstrip("*~#!%$@^-+").upper() for node in NODES}


def install() -> None:
    """Install the missing Debian packages; says what it does."""
    install_packages("SLURM for tests", PACKAGES)


def start() -> None:
    """Start what does not run yet and wait until both nodes can take jobs."""
    if os.geteuid() != 0:
        sys.exit("error: the SLURM for tests starts daemons, which needs root\nhint: `make test` skips what needs SLURM")
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if which(name) is None]
    if missing:
        sys.exit(f"error: {', '.join(missing)} are not installed\nhint: python -m tests.helpers.slurm install")
    if others := foreign():
        sys.exit(f"error: another SLURM is set up here: {', '.join(others)}\nhint: run the tests on a machine without one")
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        sys.exit(
            f"error: this machine cannot find itself under its name {socket.gethostname()!r}\nhint: add it to /etc/hosts with 127.0.0.1"
        )
    _configure()
    _start_munge()
    for name in PORTS:
        restart(name)
    try:
        wait_for_nodes(120)
    except TimeoutError as error:
        logs = "\n".join(f"{path}: {path.read_text()[-800:]}" for path in STATE.glob("*.log"))
        sys.exit(f"error: the SLURM for tests did not start: {error}\nhint: read its logs\n{logs}")


def wait_for_nodes(patience_s: float) -> None:
    """Start daemons that ended, resume nodes that are down, and wait until all nodes can take jobs."""
    deadline = time.monotonic() + patience_s
    for name in set(PORTS) - set(running()) if STATE.exists() else ():
        restart(name)
    while (reason := unavailable()) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(reason)
        for node, state in node_states().items():
            if state in ("DOWN", "DRAINED", "DRAINING"):
                with contextlib.suppress(RuntimeError):  # it may have come back by itself
                    set_node(node, "resume")
        time.sleep(0.5)


def _configure() -> None:
    """Write the configuration and what it names."""
    STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in ("controller", *NODES):
        (STATE / name).mkdir(exist_ok=True)
    for number in range(GPUS):
        (STATE / f"gpu{number}").touch()
    host = socket.gethostname().split(".")[0]
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={PORTS[node]} Sockets=1 CoresPerSocket={CORES} "
        f"ThreadsPerCore=1 RealMemory=200000 Gres=gpu:fake:{GPUS}\n"
        for node in NODES
    ]
    partition = f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP\n"
    text = SLURM_CONF.format(host=host, state=STATE, **PORTS)
    CONFIGURATION.mkdir(parents=True, exist_ok=True)
    (CONFIGURATION / "slurm.conf").write_text(MARK + text + "".join(lines) + partition)
    gres = [f"NodeName={node} Name=gpu Type=fake File={STATE}/gpu[0-{GPUS - 1}]\n" for node in NODES]
    (CONFIGURATION / "gres.conf").write_text(MARK + "".join(gres))
    (CONFIGURATION / "cgroup.conf").write_text(MARK + "CgroupPlugin=cgroup/v1\n")


def _start_munge() -> None:
    """Start the authentication service, which wants a folder and a user of its own."""
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        return
    for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", which("munged"), "--force"], check=True)
    pid = int(Path("/run/munge/munged.pid").read_text())
    _note("munged", pid)


def _start(name: str, command: list) -> None:
    """Start a daemon in a session of its own, unless it runs."""
    if name in running():
        return
    with open(STATE / f"{name}.out", "ab") as said:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, cwd="/")
    _daemons.append(daemon)
    _note(name, daemon.pid)


def _note(name: str, pid: int) -> None:
    (STATE / f"{name}.process").write_text(json.dumps([pid, process_start(pid)]))


def running() -> dict[str, int]:
    """Return the process numbers of the daemons that were started here and live."""
    found = {}
    for path in STATE.glob("*.process"):
        pid, started = json.loads(path.read_text())
        if process_start(pid) == started is not None:
            found[path.stem] = pid
    return found


def stop() -> None:
    """Cancel all jobs and end the daemons that were started here; the state is forgotten."""
    if str(CONFIGURATION / "slurm.conf") in foreign():
        sys.exit(f"error: {CONFIGURATION}/slurm.conf belongs to another SLURM\nhint: stop that one by its own means")
    if "slurmctld" in running():
        with contextlib.suppress(subprocess.SubprocessError, FileNotFoundError):
            told = subprocess.run(["squeue", "-h", "-o", "%A"], capture_output=True, text=True, timeout=30, check=False).stdout
            if told.split():
                subprocess.run(["scancel", "--full", *set(told.split())], timeout=30, check=False)
            deadline = time.monotonic() + 30
            while subprocess.run(["squeue", "-h"], capture_output=True, text=True, timeout=30, check=False).stdout:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.5)
    alive = running()
    for name in (*NODES, "slurmctld", "munged"):
        if name in alive:
            end_process(name)
    for name in FILES:
        if str(CONFIGURATION / name) not in foreign():
            (CONFIGURATION / name).unlink(missing_ok=True)
    shutil.rmtree(STATE, ignore_errors=True)


def end_process(name: str, number: int = signal.SIGTERM) -> None:
    """End a daemon of ours and wait for it."""
    pid, started = json.loads((STATE / f"{name}.process").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + 30
    while process_start(pid) == started and time.monotonic() < deadline:
        time.sleep(0.1)
    if process_start(pid) == started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def restart(name: str) -> None:
    """Start a daemon (``slurmctld``, ``n1``, ``n2``) again after it was ended; jobs and their numbers are kept."""
    _start(name, [which("slurmctld"), "-D", "-i"] if name == "slurmctld" else [which("slurmd"), "-D", "-N", name])


def cancel(*numbers: str) -> None:
    """Cancel jobs."""
    subprocess.run(["scancel", *numbers], check=False, timeout=120)


def set_node(node: str, state: str) -> None:
    """Set a node ``down`` or ``resume`` it, as an administrator does."""
    _scontrol("update", f"NodeName={node}", f"State={state}", "Reason=test")


def _scontrol(*words: str) -> str:
    return _asked("scontrol", *words)


def _asked(*command: str) -> str:
    """Return what a program of SLURM says; a controller that is busy is asked again."""
    deadline = time.monotonic() + 120
    while (told := subprocess.run(command, capture_output=True, text=True, check=False)).returncode != 0:
        if ("imed out" not in told.stderr and "Unable to contact" not in told.stderr) or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(command)}: {told.stderr}")
        time.sleep(1.0)
    return told.stdout


def jobs(*options: str, columns: str = "%i %T %j") -> list[list[str]]:
    """Return the rows that ``squeue`` tells of all jobs that it knows."""
    told = _asked("squeue", "-h", "-r", "-o", columns, *options)
    return [line.split(maxsplit=columns.count("%") - 1) for line in told.splitlines()]


def jobs_in(folder: Path) -> list[str]:
    """Return the numbers of the jobs that were submitted in a folder or below and have not ended."""
    rows = jobs("--states=PENDING,RUNNING,COMPLETING,CONFIGURING,SUSPENDED", columns="%i %Z")
    return [number for number, place in rows if Path(place).is_relative_to(folder)]


def job_record(number: str) -> dict[str, str]:
    """Return what the controller knows of a job, as ``scontrol show job`` names it."""
    return dict(word.partition("=")[::2] for word in _scontrol("--oneliner", "--details", "show", "job", number).split())


def main() -> None:
    """Do what the command line says."""
    word = sys.argv[1] if len(sys.argv) == 2 else "help"
    if word in ("install", "start", "stop"):
        {"install": install, "start": start, "stop": stop}[word]()
    elif word != "status":
        sys.exit(__doc__)
    if word != "install":
        print(
            f"SLURM for tests: {'stopped' if word == 'stop' else unavailable() or f'runs; nodes {node_states()}, daemons {running()}'}"
        )


if __name__ == "__main__":
    main()
