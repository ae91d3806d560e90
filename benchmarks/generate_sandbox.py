"""What the hostile programs of the tests do in each sandbox of this machine."""

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
from tests.verify.hostile_run import KINDS, Prey, lacking, none_left, using

MEASURE = "{programs} hostile programs in the sandbox"
HOW = (
    "Each program of tests/verify/hostile_programs.py is checked by `CodeCheck`, one after the other. Near "
    "it are a home with a secret, a key in the environment, a process, a server and a device. It has harmed "
    "if one of them was reached or changed, outlived its run if a process of it is left after the verdict, "
    "and fooled it if a test passed. Programs that wait are stopped after 0.5 s. Seconds are from the "
    "program to its verdict, with the start of two interpreters."
)


def measure(step: int) -> Row:
    """Check every `step`-th program in each sandbox."""
    programs = HOSTILE[::step]
    missing = [f"{kind}: {reason}" for kind in KINDS if (reason := lacking(kind))]
    figures = tuple(figure for kind in KINDS if not lacking(kind) for figure in _figures(kind, programs))
    notes = (f"Not on this machine: {'; '.join(missing)}.",) if missing else ()
    return Row(MEASURE.format(programs=len(programs)), HOW, figures, notes)


def _figures(kind: str, programs: list[Hostile]) -> Iterator[Figure]:
    harmed, outlived, fooled, seconds = zip(*(_checked(kind, program) for program in programs), strict=True)
    for what, found in (("harmed", harmed), ("outlived", outlived), ("fooled", fooled)):
        names = [program.name for program, happened in zip(programs, found, strict=True) if happened]
        yield Figure(f"{what}, {kind}", (float(len(names)),), "programs", Goal("≤", 0.0), ", ".join(names))
    yield Figure(f"seconds a program, {kind}", seconds, "s")


def _checked(kind: str, program: Hostile) -> tuple[bool, bool, bool, float]:
    """Return whether a program harmed, outlived or fooled its run, and how long that took."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as home, Prey(Path(home)) as prey, using(kind, mark):
        start = time.perf_counter()
        outcome = asyncio.run(prey.attacked_by(program))
        seconds = time.perf_counter() - start
        return bool(prey.harm()), not none_left(mark), outcome.score > 0, seconds
