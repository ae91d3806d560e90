"""Answers and training records as SelFee and FastChat have them."""

from __future__ import annotations

from typing import Any

import pytest

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.read.records import chain_of
from redraft.chain.selfee import verdict_of
from redraft.chain.write import to_fastchat_answer, to_selfee_answer, to_selfee_chain


def judged(answer: str, feedback: str) -> Step:
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict_of(feedback)))


class TestWriters:
    CHAIN = Chain(
        id="vicuna_80/12",
        prompt=Prompt(instruction="Describe rain.", input="short"),
        steps=(
            judged("Wet.", "Curt. Revision is needed."),
            judged("Cold and wet.", "No revision is needed."),
        ),
        best=1,
        stop="accepted",
    )

    def test_a_selfee_answer(self) -> None:
        record = to_selfee_answer(self.CHAIN, "m-7b")
        assert {k: v for k, v in record.items() if k not in {"whole_generation", "answer_id"}} == {
            "question_id": 12,
            "text": "Cold and wet.",
            "model_id": "m-7b",
            "metadata": {},
        }
        assert record["whole_generation"].endswith(
            "### Answer:\nWet.\n\n### Feedback 1:\nCurt. Revision is needed.\n\n### Revision 1:\n"
            "Cold and wet.\n\n### Feedback 2:\nNo revision is needed."
        )

    def test_an_earlier_best_is_read_back(self) -> None:
        back = chain_of(to_selfee_answer(self.CHAIN.model_copy(update={"best": 0}), "m"))
        assert (back.best, back.stop, back.steps[1].finish) == (0, "accepted", "stop")

    def test_a_fastchat_answer(self) -> None:
        record = to_fastchat_answer(self.CHAIN, "m-7b")
        assert record["choices"] == [{"index": 0, "turns": ["Cold and wet."]}]
        assert (record["question_id"], record["model_id"], record["tstamp"]) == (12, "m-7b", 0.0)
        assert chain_of(record).answer == "Cold and wet."

    def test_answer_ids_are_stable_and_differ(self) -> None:
        chain = self.CHAIN
        ids = [
            to_selfee_answer(c, model)["answer_id"]
            for c, model in [
                (chain, "a"),
                (chain, "b"),
                (chain.model_copy(update={"id": "x"}), "a"),
                (chain.model_copy(update={"best": 0}), "a"),
            ]
        ]
        assert len(set(ids)) == 4
        assert {len(name) for name in ids} == {22}
        assert to_fastchat_answer(chain, "a")["answer_id"] == ids[0]

    @pytest.mark.parametrize(
        ("chain_id", "source", "question_id"),
        [("a/7", {}, 7), ("a/b", {}, "b"), ("", {}, ""), ("a/9", {"question_id": "7"}, 7), ("²", {}, "²")],
    )
    def test_the_question_is_named(
        self, chain_id: str, source: dict[str, Any], question_id: str | int
    ) -> None:
        chain = Chain(id=chain_id, meta={"source": source})
        assert to_fastchat_answer(chain, "m")["question_id"] == question_id

    def test_a_cut_training_chain(self) -> None:
        chain = Chain(
            steps=(Step(answer="a", finish="context"),), best=0, stop="context", meta={"reference": "r"}
        )
        record = to_selfee_chain(chain)
        assert record["iteration_truncated"] is True
        assert (record["outputs"], record["output"]) == ([{"output": "a"}], "r")
        assert chain_of(record).steps == (Step(answer="a"),)
