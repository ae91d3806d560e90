"""Answers and training records as SelFee and FastChat have them."""

from __future__ import annotations

from redraft.chain import Chain, Feedback, Step
from redraft.chain.read.records import chain_of
from redraft.chain.selfee import verdict_of
from redraft.chain.write import to_selfee_chain


def judged(answer: str, feedback: str) -> Step:
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict_of(feedback)))


class TestWriters:
    def test_a_cut_training_chain(self) -> None:
        chain = Chain(
            steps=(Step(answer="a", finish="context"),), best=0, stop="context", meta={"reference": "r"}
        )
        record = to_selfee_chain(chain)
        assert record["iteration_truncated"] is True
        assert (record["outputs"], record["output"]) == ([{"output": "a"}], "r")
        assert chain_of(record).steps == (Step(answer="a"),)
