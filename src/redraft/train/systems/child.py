"""A stage in a process of its own: its memory is given back, and a crash of it is no crash of the run.

The job comes as an argument, in JSON, and the result goes to standard output. Standard input is held open by
the run: when it ends, the run has died, and so the stage and all its processes end too. The same command, run
again, then finds nothing under way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any

from redraft.errors import RedraftError
from redraft.jobs.counting import tell
from redraft.jobs.machine import use_large_pages
from redraft.jobs.signals import ended_by_sigterm
from redraft.train.systems.verbs import VERBS

_STOPPED = 130


def _end_with_the_run() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a stage, and return its exit status, its figures and its summary."""
    if command := job["command"]:
        status = subprocess.run(command, shell=True, check=False).returncode  # noqa: S602  (the user's own)
        return {"status": status, "says": ""}
    verb = VERBS[job["verb"]]
    try:
        result = verb.call(job["options"], job["out"])
    except RedraftError as error:
        tell(error.message, error.hint)
        return {"status": error.exit_status, "says": ""}
    except (KeyboardInterrupt, SystemExit):
        return {"status": _STOPPED, "says": ""}
    status = getattr(result, "exit_status", 0)
    if getattr(result, "stopped_by", None) is not None:
        status = _STOPPED
    run = getattr(result, "job", None)
    figures = run.spent.figures() if run else {}
    says = result if isinstance(result, str) else str(result) if run else getattr(result, "message", "")
    return {"status": 0 if job["verb"] == "answer" and status == 1 else status, "says": says, **figures}


def main() -> None:
    """Do the job of the first argument."""
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints of verbs and of others
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    use_large_pages()
    begun = monotonic()
    with ended_by_sigterm():
        found = work(json.loads(sys.argv[1]))
    json.dump({**found, "seconds": round(monotonic() - begun, 1)}, result)
    result.close()


if __name__ == "__main__":
    main()
