"""What is counted of the chains that a teacher makes."""

from __future__ import annotations

from redraft.chain import Chain, Prompt, Step
from redraft.data.generate.chains import ChainCounts
from redraft.jobs.licences import MOST_ORIGINS


def test_data_sets_that_are_known_are_counted_when_there_are_too_many_others() -> None:
    counts = ChainCounts()
    for number in [*range(MOST_ORIGINS + 5), 0]:
        origin = {"dataset": f"set {number}", "licence": "CC BY-NC 4.0"}
        answer = Step(answer="Yes.")
        counts.add(Chain(prompt=Prompt(instruction="Why?"), steps=(answer,), best=0, meta={"origin": origin}))
    assert counts.origins["set 0", "CC BY-NC 4.0"] == 2
    assert counts.origins["other data", "other licences (non-commercial)"] == 5
