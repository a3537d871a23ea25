"""Program: work on a study until its budget is met. Any number of workers may join, leave and die at any time."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
from sqlalchemy.exc import DBAPIError

from calandria.base.errors import DeviceError
from calandria.cli.program import program, run
from calandria.search.objective import StopRequested
from calandria.search.presence import Presence
from calandria.search.study import DATABASE_ERRORS, JournalError, StudyFolder
from calandria.search.worker import (
    EXIT_FAILING,
    EXIT_NO_ANSWER,
    EXIT_STOPPED,
    StudyFailingError,
    Worker,
    default_name,
    may_pass,
    set_threads,
)

log = logging.getLogger("workflow_scripts.search")


def main(arguments: Sequence[str] | None = None) -> None:
    """Join the study of a folder."""
    parser = program(
        "Join a running or interrupted study, given only its folder.\n\n"
        "Exit status: 0 the study is done; 1 the database of trials or the file system does not answer; 2 wrong input or device;\n"
        "3 most trials fail, in the study or on this machine only;\n"
        "75 stopped by SIGTERM or SIGINT (within seconds; the trial at hand is left for another worker, which resumes it from its checkpoint)."
    )
    parser.add_argument("--directory", type=Path, required=True, help="the study's folder, which holds search.json")
    parser.add_argument("--worker-name", help="name in records and locks; made from host and process if not given")
    parser.add_argument("--device", help="cpu or cuda instead of the device that the study was defined with")
    parser.add_argument("--threads", type=int, help="threads of numerical libraries; the study's threads_per_worker if not given")
    parser.add_argument("--stop-with-parent", type=int, metavar="PID", help="stop when this parent process has ended")
    parser.add_argument("--leave-when-idle", action="store_true", help="do not wait for trials of other workers to end")
    options = parser.parse_args(arguments)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = StudyFolder(options.directory)
    definition = folder.read_definition()
    set_threads(options.threads or definition.search.threads_per_worker)
    name = options.worker_name or default_name()
    workers: list[Worker] = []

    def leave_at_once() -> None:
        log.warning("%s: the step at hand did not end in time; left where it stands", name)
        for worker in workers:
            worker.release_all()
        os._exit(EXIT_STOPPED)

    with Presence(min(definition.search.lease_seconds / 6, 10.0), options.stop_with_parent, leave_at_once) as presence:
        try:
            workers.append(
                Worker(folder, presence, name=name, device=options.device, wait_for_others=not options.leave_when_idle)
            )
            workers[0].work()
        except StopRequested as stop:
            log.info("%s stops: %s", name, stop)
            raise SystemExit(EXIT_STOPPED) from stop
        except StudyFailingError as error:
            log.error("%s", error.message)
            raise SystemExit(EXIT_FAILING) from error
        except DATABASE_ERRORS as error:
            log.error("%s leaves: the database of trials fails: %s", name, " ".join(str(error).split())[:300])
            raise SystemExit(EXIT_NO_ANSWER) from error
        except DeviceError as error:
            if not workers:
                raise
            log.error("%s leaves, for its trial left a device that does not compute: %s", name, error.message)
            raise SystemExit(EXIT_NO_ANSWER) from error
        except JournalError as error:
            if not may_pass(error) and not isinstance(error.__context__, DBAPIError):  # whose text may hold a password
                raise
            log.error("%s leaves: %s", name, error.message)
            raise SystemExit(EXIT_NO_ANSWER) from error
    log.info("%s: the study is done", name)


if __name__ == "__main__":
    sys.exit(run(main))
