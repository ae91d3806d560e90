"""What the hostile programs of the tests do in the sandbox."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import generate_job  # noqa: F401  (finds the tests)
from measure import Figure, Goal, Row
from tests.verify.hostile_programs import HOSTILE, Hostile
from tests.verify.hostile_run import Prey, marking, none_left

MEASURE = "{programs} hostile programs in the sandbox"
HOW = (
    "Each program of tests/verify/hostile_programs.py is checked by `CodeCheck`, one after the other. Near "
    "it are a home with a secret, a key in the environment, a process, a server and a device. It has harmed "
    "if one of them was reached or changed, outlived its run if a process of it is left after the verdict, "
    "and fooled it if a test passed. Programs that wait are stopped after 0.5 s. Seconds are from the "
    "program to its verdict, with the start of two interpreters."
)


def measure(step: int) -> Row:
    """Check every `step`-th program."""
    programs = HOSTILE[::step]
    return Row(MEASURE.format(programs=len(programs)), HOW, tuple(_figures(programs)), ())


def _figures(programs: list[Hostile]) -> Iterator[Figure]:
    harmed, outlived, fooled, seconds = zip(*map(_checked, programs), strict=True)
    for what, found in (("harmed", harmed), ("outlived", outlived), ("fooled", fooled)):
        names = [program.name for program, happened in zip(programs, found, strict=True) if happened]
        yield Figure(what, (float(len(names)),), "programs", Goal("≤", 0.0), ", ".join(names))
    yield Figure("seconds a program", seconds, "s")


def _checked(program: Hostile) -> tuple[bool, bool, bool, float]:
    """Return whether a program harmed, outlived or fooled its run, and how long that took."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as home, Prey(Path(home)) as prey, marking(mark):
        start = time.perf_counter()
        outcome = asyncio.run(prey.attacked_by(program))
        seconds = time.perf_counter() - start
        return bool(prey.harm()), not none_left(mark), outcome.score > 0, seconds
