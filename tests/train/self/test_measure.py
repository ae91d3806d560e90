from __future__ import annotations

from redraft.chain import Chain, Feedback, Prompt, Step, Usage, Verdict
from redraft.train.self.measure import HEAD, Outcome, by_task, changes
from redraft.train.self.tasks import TASKS

ADD = TASKS["add"]
USED = Usage(completion_tokens=10)


def chain(number: int, first: str, verdict: Verdict, final: str = "") -> Chain:
    steps = [Step(answer=first, feedback=Feedback(text="…", verdict=verdict, by="model"), usage=USED)]
    steps += [Step(answer=final, usage=USED)] if final else []
    return Chain(
        id=f"add/{number}",
        prompt=Prompt(instruction="2 + 2?"),
        steps=tuple(steps),
        best=len(steps) - 1,
        usage=Usage(completion_tokens=10 * len(steps)),
        meta={"task": "add", "values": {"a": 2, "b": 2}},
    )


CHAINS = [
    chain(0, "4", "accept"),
    chain(1, "5", "revise", "4"),
    chain(2, "4", "revise", "5"),
    chain(3, "5", "unknown"),
]


def test_changes_and_verdicts_are_counted() -> None:
    found = Outcome.of(ADD, CHAINS)
    assert (found.first, found.final) == ((True, False, True, False), (True, True, False, False))
    assert (found.changes.fixed, found.changes.broken, found.unknown) == (1, 1, 1)
    assert (found.verdicts.value, found.tokens) == (50, (10, 20, 20, 10))
    assert "| 1 of 2 | 1 of 2 |" in changes([("add", found)])


def test_a_table_has_a_line_for_each_task() -> None:
    lines = changes((name, Outcome.of(ADD, found)) for name, found in by_task(CHAINS).items())
    assert [line.count("|") for line in lines.splitlines()] == [len(HEAD) + 1] * 3
