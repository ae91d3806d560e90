"""redraft where Unix's own modules and functions are missing, as on Windows.

A `sitecustomize` hides them in a process and in every Python that it starts. What only Windows has is not
imitated: the workflow runs these tests there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

HIDE = """
import sys
for name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "readline"):
    sys.modules[name] = None
import asyncio, builtins, io, multiprocessing, os, pathlib, signal, socket, subprocess
functions = "fork geteuid getuid sched_getaffinity fdatasync killpg fchmod pread pwrite preadv"
for name in f"{functions} O_NOFOLLOW O_NONBLOCK O_CLOEXEC".split():
    if hasattr(os, name):
        delattr(os, name)
for name in ("pthread_sigmask", "SIGHUP", "SIGCHLD"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("add_signal_handler", "remove_signal_handler"):
    setattr(asyncio.SelectorEventLoop, name, getattr(asyncio.AbstractEventLoop, name))  # both refuse
opened = io.open
def without_proc(file, *args, **named):
    if str(file).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", str(file))
    return opened(file, *args, **named)
builtins.open = io.open = without_proc
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "sitecustomize.py").write_text(HIDE)
    return {**os.environ, "PYTHONPATH": str(folder)}


def run(env: dict[str, str], folder: Path, *args: str) -> str:
    command = [sys.executable, "-W", "ignore", *args]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORTS = """
import importlib, os, pkgutil, redraft
assert not hasattr(os, "fork")
try:
    import fcntl
except ImportError:
    pass
else:
    raise SystemExit("fcntl is there")
left = "integrations serve.cluster train weights engines.hf engines.openvino.child checks.inside".split()
left.append("jobs.windows")
left.append("__main__")
for module in pkgutil.walk_packages(redraft.__path__, "redraft."):
    if not module.name.startswith(tuple(f"redraft.{name}" for name in left)):
        importlib.import_module(module.name)
"""


@pytest.mark.slow
def test_everything_but_training_is_imported(elsewhere: dict[str, str], tmp_path: Path) -> None:
    run(elsewhere, tmp_path, "-c", IMPORTS)


CORE = """
import asyncio, json, sys
from pathlib import Path
import redraft
from redraft.errors import UsageError
from redraft.jobs.files import locked, replace_file
from redraft.jobs.machine import free_memory
from redraft.jobs.parallel import spread
from redraft.checks.base import run_checks
from redraft.checks.sandbox import find_sandbox

def main():
    checks = ["words<=3", f"command:{Path(sys.executable).as_posix()} -c 'print(input())'"]
    Path("replies.jsonl").write_text('"It is rain that falls."\\n"It is rain."\\n')
    chain = redraft.revise("Describe rain.", model="script:replies.jsonl", checks=checks, tell_checks=False)
    slow = f"command[0.2s]:{Path(sys.executable).as_posix()} -c 'import time; time.sleep(60)'"
    (late,) = asyncio.run(run_checks([redraft.parse_check(slow)], "x", redraft.Prompt(instruction="")))
    with locked(Path("lock")):
        replace_file(Path("kept.txt"), b"a\\nb\\n")
    assert Path("kept.txt").read_bytes() == b"a\\nb\\n"
    Path("questions.jsonl").write_text('{"prompt": "Describe rain."}\\n{"prompt": "Describe it."}\\n')
    for limit in (1, None):  # the second run goes on
        redraft.answer_file("questions.jsonl", "out.jsonl", model="script:replies.jsonl", limit=limit)
    answered, memory = len(list(redraft.read_jsonl(Path("out.jsonl")))), free_memory()
    platform, sys.platform = sys.platform, "win32"
    try:
        find_sandbox()
    except UsageError as error:
        said = f"{error.message} {error.hint}"
    sys.platform = platform
    last = list(spread(abs, range(-200, 0), 2))[-1]
    print(json.dumps([chain.answer, chain.passed, late.message, last, memory > 0, answered, said]))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_the_core_works(elsewhere: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "core.py").write_text(CORE)
    answer, passed, late, spread, has_memory, answered, said = json.loads(run(elsewhere, tmp_path, "core.py"))
    assert (answer, passed, spread, has_memory, answered) == ("It is rain.", True, 1, True, 2)
    assert "took longer than 0.2 s" in late
    assert "needs Linux on x86-64 or ARM64" in said
    assert "WSL 2" in said


@pytest.mark.slow
def test_a_model_of_this_machine(elsewhere: dict[str, str], tmp_path: Path, default_model: Path) -> None:
    code = f"import redraft; print(redraft.revise('Hi', model={str(default_model)!r}, max_tokens=3).answer)"
    assert run(elsewhere, tmp_path, "-c", code).strip()


@pytest.mark.slow
def test_data_and_shares(elsewhere: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
    told = "Rain is water that falls from clouds when they are cold and heavy enough."
    records = [json.dumps({"instruction": f"Describe rain {n}.", "output": told}) + "\n" for n in range(6)]
    (tmp_path / "raw.jsonl").write_text("".join(records))
    (tmp_path / "replies.jsonl").write_text('"It is rain."\n')
    run(elsewhere, tmp_path, "-m", "redraft", "data", "import", "raw.jsonl", "-o", "chains.jsonl", "-j", "2")
    run(elsewhere, tmp_path, "-m", "redraft", "data", "clean", "chains.jsonl", "-o", "clean.jsonl")
    words = ["-m", "redraft", "answer", "clean.jsonl", "-o", "out.jsonl", "-m", "script:replies.jsonl"]
    for index in range(2):
        run(elsewhere, tmp_path, *words, "--shard", f"{index}/2")
    parts = [f"out-{index:05}-of-00002.jsonl" for index in range(2)]
    run(elsewhere, tmp_path, "-m", "redraft", "merge", "out.jsonl", *parts)
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 6


@pytest.mark.slow
def test_a_server(elsewhere: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    (tmp_path / "replies.jsonl").write_text('"It is rain."\n')
    command = [sys.executable, "-W", "ignore", "-m", "redraft", "serve", "-m", "script:replies.jsonl"]
    command += ["--port", "0"]
    with subprocess.Popen(command, env=elsewhere, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            found = next(filter(None, map(re.compile(r"http://127\.0\.0\.1:\d+").search, server.stderr)))
            [name, _] = [each["id"] for each in httpx.get(f"{found[0]}/v1/models").json()["data"]]
            body = {"model": name, "messages": [{"role": "user", "content": "Describe rain."}]}
            asked = httpx.post(f"{found[0]}/v1/chat/completions", json=body, timeout=60)
            assert asked.status_code == 200, asked.text
            assert asked.json()["choices"][0]["message"]["content"] == "It is rain."
            assert httpx.get(found[0]).status_code == 200  # the web page
        finally:
            server.terminate()
