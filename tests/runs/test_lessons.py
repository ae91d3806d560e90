"""What a chain of a run is told of those before it does not depend on their speed, or on stops."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Chain, CheckResult, Choice, Feedback, Step, read_jsonl
from redraft.revision.choose import Counts
from redraft.runs import lessons
from redraft.runs.lessons import Lessons


def made(name: str, *, passed: bool) -> Chain:
    found = CheckResult(name="toy", passed=passed, score=float(passed), message="")
    feedback = Feedback(text="", verdict="accept" if passed else "revise", by="checks", checks=(found,))
    return Chain(id=name, steps=(Step(answer="a", feedback=feedback, choice=Choice(way="draft")),))


async def run(size: int, passing: list[bool], parallel: int, done: set[int], seed: int) -> dict[int, Counts]:
    """Make every chain that is not done, some faster than others. Return what each was told."""
    told: dict[int, Counts] = {}
    lasts, lessons_ = random.Random(seed), Lessons(1)
    lessons_._size = size
    for number in done:
        lessons_.found(made(str(number), passed=passing[number]))

    async def worker() -> None:
        for number in numbers:
            async with lessons_.told(number) as counts:
                told[number] = counts
                for _ in range(lasts.randrange(9)):
                    await asyncio.sleep(0)
                lessons_.add(number, made(str(number), passed=passing[number]))

    def begin() -> Any:
        for number in range(len(passing)):
            lessons_.place(number, str(number))
            if number not in done:
                yield number

    numbers = begin()
    await asyncio.gather(*(worker() for _ in range(parallel)))
    return told


@given(
    passing=st.lists(st.booleans(), max_size=30),
    size=st.integers(1, 6),
    parallel=st.integers(1, 8),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_speed_and_stops_change_nothing(
    passing: list[bool], size: int, parallel: int, seed: int, data: st.DataObject
) -> None:
    done = data.draw(st.sets(st.sampled_from(range(len(passing))))) if passing else set()
    told = asyncio.run(asyncio.wait_for(run(size, passing, parallel, done, seed), 5))
    assert told.keys() == set(range(len(passing))) - done
    for number, counts in told.items():
        known = passing[: max(number // size - 1, 0) * size]
        assert counts.get("draft", (0, 0)) == (sum(known), len(known))


def test_a_run_learns_and_a_stopped_one_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lessons, "BLOCK", 2)
    Path("asked.jsonl").write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(12)))
    Path("script.jsonl").write_text('"bad"\n')
    options: Any = {"model": "script:script.jsonl", "check": ["contains:good"], "mode": "adaptive", "seed": 1}

    def answered(out: str, **more: Any) -> dict[str, Any]:
        redraft.answer_file("asked.jsonl", out, **{**options, **more})
        return {chain.id: [step.choice for step in chain.steps] for chain in read_jsonl(out)}

    whole = answered("whole.jsonl", parallel=2)
    whys = [choices[1].why for choices in whole.values()]
    assert len(set(whys)) > 3  # the chances fall with what is learned
    lines = Path("whole.jsonl").read_bytes().splitlines(keepends=True)
    Path("part.jsonl").write_bytes(b"".join(lines[:5]))
    Path("part.jsonl.run.json").write_bytes(Path("whole.jsonl.run.json").read_bytes())
    assert answered("part.jsonl", parallel=2) == whole
