"""torchrun with the ends of our programs: the exit status of the process that failed first, 75 after a stop, no tables of torch's."""

import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser
from torch.distributed.run import main as torchrun

from calandria.base.errors import StoppedError
from calandria.cli.program import run

SHUTDOWN_S = 100
"""Time from SIGTERM, which is passed on to the processes, to SIGKILL; their present step and the checkpoint must fit into it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Start processes; the arguments are torchrun's."""
    get_args_parser().parse_args(arguments)  # help and wrong options end here
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_S))
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGUSR1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        torchrun(list(arguments) if arguments is not None else None)
    except ChildFailedError as error:  # the process has told why
        _, failure = error.get_first_failure()
        code = failure.exitcode
        raise SystemExit(128 - code if code < 0 else code) from None
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise StoppedError(
            f"the processes were stopped by {error.sigval.name}",
            hint="give the same command again; it resumes from the checkpoint",
        ) from None


if __name__ == "__main__":
    sys.exit(run(main))
