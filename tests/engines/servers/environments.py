"""Python environments for servers that other people wrote, made once and kept.

They lie in `~/.cache/redraft/servers` (`$REDRAFT_CACHE/servers`), each in a folder named after what is in it.
Delete a folder to have its newest packages installed again. Where they cannot be installed, tests skip.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from redraft.jobs.machine import cache_folder

MADE = "made.txt"
LIMIT = 900
"""Seconds for the package installer."""


def environment(name: str, requirement: str, *, borrowing: bool = False) -> Path:
    """Returns the `bin` of an environment with this package.

    With `borrowing`, it also sees the packages of the environment that runs the tests: torch need not be
    downloaded and stored twice.
    """
    lenders = [entry for entry in sys.path if entry.endswith("-packages")] if borrowing else []
    contents = "\n".join([requirement, sys.version, *lenders])
    folder = cache_folder() / "servers" / f"{name}-{hashlib.sha256(contents.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making it
        if not (folder / MADE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, requirement, lenders)
            (folder / MADE).write_text(contents)
    return folder / "bin"


def _make(folder: Path, requirement: str, lenders: list[str]) -> None:
    venv.create(folder, with_pip=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(packages) / "borrowed.pth").write_text("".join(f"{lender}\n" for lender in lenders))
    quietly = ["--quiet", "--disable-pip-version-check"]
    # The installer alone works outside the wall that keeps tests on this machine.
    unwalled = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [folder / "bin" / "python", "-m", "pip", *quietly, "install", *requirement.split()],
            env=unwalled,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        said = done.stderr.strip() if done.returncode else None
    except subprocess.TimeoutExpired:
        said = f"it took longer than {LIMIT} s"
    if said is not None:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(
            f"pip cannot install {requirement}: {said.splitlines()[-1] if said else 'it says nothing'}"
        )
