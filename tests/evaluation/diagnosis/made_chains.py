"""Chains with truth, for tests: each answer is right or wrong, and is accepted or rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redraft.chain import Chain, CheckResult, Feedback, Step, Usage, Verdict, write_jsonl
from redraft.evaluation.tasks.tasks import KEY

_SAID: dict[str, Verdict] = {"a": "accept", "r": "revise", "u": "unknown"}


def result(name: str, *, passed: bool) -> CheckResult:
    return CheckResult(name=name, passed=passed, score=float(passed), message="m")


def step(answer: str = "x", said: str = " ", guide: str = " ", **about: Any) -> Step:
    checks = (result("words<=9", passed=guide == "1"),) if guide != " " else ()
    verdict = _SAID.get(said, "accept" if guide == "1" else "revise")
    by: Any = "checks" if checks else "model"
    feedback = Feedback(text="f", verdict=verdict, by=by, checks=checks) if checks or said != " " else None
    return Step(answer=answer, feedback=feedback, **about)


def told(
    name: str,
    rights: str,
    said: str = "",
    *,
    guide: str = "",
    answers: tuple[str, ...] = (),
    best: int | None = -1,
    task: str = "gsm8k",
    truth: dict[str, Any] | None = None,
    **about: Any,
) -> Chain:
    count = len(rights)
    texts = answers or tuple(f"answer {number}" for number in range(count))
    steps = [step(*each) for each in zip(texts, said.ljust(count), guide.ljust(count), strict=True)]
    found = [[result("final number 7", passed=right == "1").model_dump()] for right in rights]
    meta = {KEY: {"task": task, "groups": [], "steps": found, **(truth or {})}}
    return Chain(
        **{
            "id": name,
            "steps": tuple(steps),
            "best": count - 1 if best == -1 else best,
            "meta": meta,
            **about,
        }
    )


def write_run(
    folder: Path, way: str, tokens: int, rights: Sequence[bool], seed: int = 1, first: str = "0"
) -> None:
    """Write a run. The first answers of `revise` and `alone` are those before the ones in `rights`."""
    file = folder / f"seed-{seed}" / f"{way}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    used = Usage(completion_tokens=tokens, prompt_tokens=10)
    names = (f"i{place:03}" for place in range(len(rights)))
    first *= way.startswith(("revise", "alone"))
    marks = (f"{first}{int(right)}" for right in rights)
    chains = [told(name, each, usage=used) for name, each in zip(names, marks, strict=True)]
    write_jsonl(file, chains)


def shares(right: int, of: int = 40) -> list[bool]:
    return [place < right for place in range(of)]
