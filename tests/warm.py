"""One process that has imported what commands use, and forks for each command that a page types.

Importing takes longer than what most commands do. `Warm` makes a folder for PATH with a
`redraft` and a `python`. They pass their arguments, environment, working folder and standard streams to the
process. Its fork runs the command, and they exit as the fork exits. How a real `redraft` starts, and what
it imports, is tested in `tests/cli` and `tests/test_package.py`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from typer.main import get_group

from redraft.cli.commands import app

ROOT = Path(__file__).resolve().parent.parent
USUAL = (
    "redraft.engines.remote.engine",
    "redraft.evaluation.diagnosis.diagnose",
    "redraft.evaluation.reports.report",
    "redraft.evaluation.tasks.tasks",
    "redraft.data.generate.chains",
    "redraft.revision.api",
)
TORCH = (
    "redraft.engines.hf.engine", "redraft.engines.remote.engine", "redraft.train.run",
    "redraft.weights.convert", "redraft.weights.lora.merge", "gguf", "peft", "pyarrow.parquet",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
COMMAND = """\
#!{python} -ISs
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect({address!r})
    asked = {{"argv": ["{name}", *sys.argv[1:]], "cwd": os.getcwd(), "env": dict(os.environ)}}
    socket.send_fds(warm, [json.dumps(asked).encode() + b"\\n"], [0, 1, 2])
    sys.exit(int(warm.makefile().read()))
"""


class Warm:
    """A process that lives within `with`. `folder` belongs in PATH. `modules` are imported at the start."""

    def __init__(self, folder: Path, modules: Sequence[str]) -> None:
        self.folder, self.modules = folder, modules

    def __enter__(self) -> Self:
        address = str(self.folder / "socket")
        for name in ("redraft", "python"):
            command = self.folder / name
            command.write_text(COMMAND.format(python=sys.executable, address=address, name=name))
            command.chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", address, *self.modules],
            cwd=ROOT,
            stdin=subprocess.PIPE,  # when it closes, the process ends
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"warm\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def serve(address: str, *modules: str) -> None:
    for name in modules:
        importlib.import_module(name)
    list(get_group(app).commands.values())  # imports each command
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks need no one to wait for them
        print("warm", flush=True)
        while listener in select.select([listener, 0], [], [])[0]:
            asking, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                answer(asking)
                return
            asking.close()


def answer(asking: socket.socket) -> None:
    asked, streams, _, _ = socket.recv_fds(asking, 1 << 20, 3)
    command = os.fork()
    if command == 0:
        asking.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        do(**json.loads(asked))
    else:
        _, status = os.waitpid(command, 0)
        asking.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def do(argv: list[str], cwd: str, env: dict[str, str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    name, *sys.argv = argv if argv[0] == "python" else ["", *argv]
    if name == "python" and sys.argv[0].startswith("-"):
        os.execv(sys.executable, ["python", *sys.argv])  # noqa: S606  (as typed)
    elif name == "python":
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        importlib.import_module("redraft.cli").main()


if __name__ == "__main__":
    serve(*sys.argv[1:])
