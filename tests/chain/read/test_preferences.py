from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain
from redraft.chain.read.records import chain_of
from redraft.chain.read.shapes import known_shape, read_as
from redraft.errors import RecordError


def read(record: dict[str, Any]) -> Chain:
    return read_as(known_shape(record, "f:1"), record, "f:1")


def pair(chain: Chain) -> tuple[str, str]:
    rejected, chosen = chain.steps
    assert (chain.best, chain.meta["preference"]) == (1, True)
    return rejected.answer, chosen.answer


def dialogue(*turns: str) -> str:
    speakers = ["Human", "Assistant"] * len(turns)
    return "".join(f"\n\n{who}: {said}" for who, said in zip(speakers, turns, strict=False))


class TestDialogues:
    def test_the_last_turn_differs(self) -> None:
        chain = read({"chosen": dialogue("a", "b", "c", "good"), "rejected": dialogue("a", "b", "c", "bad")})
        assert pair(chain) == ("bad", "good")
        assert chain.prompt.messages is not None
        assert [(m["role"], m["content"]) for m in chain.prompt.messages] == [
            ("user", "a"),
            ("assistant", "b"),
            ("user", "c"),
        ]

    def test_marks_inside_a_line_are_text(self) -> None:
        said = "say Human: or\nAssistant: if you like"
        chain = read({"chosen": dialogue(said, "x Human: y"), "rejected": dialogue(said, "z")})
        assert (chain.prompt.instruction, pair(chain)) == (said, ("z", "x Human: y"))

    def test_an_answer_that_speaks_for_both_stays_whole(self) -> None:
        ours, theirs = dialogue("a", "b", "c", "d"), dialogue("a", "x")
        assert pair(read({"chosen": ours, "rejected": theirs})) == ("x", "b\n\nHuman: c\n\nAssistant: d")
        assert pair(read({"chosen": theirs, "rejected": ours})) == ("b\n\nHuman: c\n\nAssistant: d", "x")

    @pytest.mark.parametrize(
        ("chosen", "rejected", "message"),
        [
            ("a", dialogue("a", "b"), "chosen should have turns that begin"),
            (dialogue("a", "b"), "", "rejected should have turns that begin"),
            (
                dialogue("a", "b"),
                dialogue("c", "b"),
                "chosen should first differ from the other dialogue in an",
            ),
            (3, dialogue("a"), "chosen should be a text (found 3)"),
            (["a" * 60], "b", "chosen.0 should be an object (found '" + "a" * 59 + "…')."),
            (dialogue("a", "b"), None, "rejected should be a text (found None)"),
        ],
    )
    def test_what_is_no_pair_is_told(self, chosen: Any, rejected: Any, message: str) -> None:
        with pytest.raises(RecordError, match=re.escape(f"f:1: {message}")):
            read({"chosen": chosen, "rejected": rejected})

    def test_every_real_pair_is_read_without_loss(self, shared_data: Path) -> None:
        lines = gzip.decompress(
            (shared_data / "preference/hh_harmless_test.jsonl.gz").read_bytes()
        ).splitlines()
        assert len(lines) == 2312
        for record in map(json.loads, lines):
            chain = read(record)
            rejected, chosen = pair(chain)
            assert record["chosen"].endswith(chosen)
            assert record["rejected"].endswith(rejected)
            said = chain.prompt.messages or ({"role": "user", "content": chain.prompt.instruction},)
            assert said[-1]["role"] == "user"
            asked = "".join(message["content"] for message in said)
            marks = re.compile(r"(?:\A|\n\n)(?:Human|Assistant):|\s")
            assert marks.sub("", record["chosen"]) == marks.sub("", asked + "\n\nAssistant:" + chosen)


ASKED = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}


class TestOtherPairs:
    @pytest.mark.parametrize(
        "record",
        [
            {"prompt": "q", "chosen": "good", "rejected": "bad"},
            {"instruction": "q", "chosen": "good", "rejected": "bad"},
            {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
            {"prompt": "q", "chosen": [GOOD], "rejected": [BAD]},
            {"prompt": "q", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
            {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
            {
                "history": "q", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1, "score_A": 20,
                "score_B": 4, "score_ratio": 5.0, "domain": "askbaking_train",
            },
            {"history": "q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0},
        ],
    )  # fmt: skip
    def test_every_form_is_the_same_pair(self, record: dict[str, Any]) -> None:
        chain = read(record)
        assert (chain.prompt.text, pair(chain)) == ("q", ("bad", "good"))
        assert len(chain.prompt.messages or [ASKED]) == 1

    def test_an_instruction_keeps_its_input(self) -> None:
        record = {"instruction": "Translate.", "input": "Hund", "chosen": "dog", "rejected": "cat"}
        prompt = read(record).prompt
        assert (prompt.instruction, prompt.input) == ("Translate.", "Hund")

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ({"chosen": [GOOD], "rejected": [ASKED]}, "rejected should add one assistant message"),
            ({"chosen": ["x"], "rejected": [BAD]}, "chosen.0 should be an object"),
            (
                {"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 2},
                "labels should be 0 or 1 (found 2)",
            ),
            ({"history": "q", "human_ref_A": "a", "human_ref_B": "b"}, "labels is missing"),
        ],
    )
    def test_what_is_no_pair_is_told(self, record: dict[str, Any], message: str) -> None:
        with pytest.raises(RecordError, match=re.escape(f"f:1: {message}")):
            read(record)

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("chosen", r"a pair of answers \(.* redraft data import turns them into chains\)"),
            ("human_ref_A", r"a pair of answers \(.*\)"),
            ("code_lines", "a program to repair"),
            ("review_id", "a review"),
        ],
    )
    def test_only_what_asks_for_them_reads_them(self, name: str, what: str) -> None:
        with pytest.raises(RecordError, match=f"^f:1: the record is {what}, not a prompt, an answer or a "):
            chain_of({name: "x", "prompt": "p"}, "f:1")
