from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.encoder import Example, PairEncoder, Skipped
from redraft.chain.read.records import raw_records
from redraft.errors import RecordError
from tests.chain.test_spans import talk
from tests.cli.verbs import write
from tests.train.tokenizer_kinds import CHATML, KINDS, tokenizer

ASKED = talk("Name a colour.", "Blue.", "Another one.").prompt


def chosen_over(chosen: str, rejected: str, prompt: Prompt | None = None, **meta: Any) -> Chain:
    return Chain(
        id="p/1",
        prompt=prompt or ASKED,
        steps=(Step(answer=rejected), Step(answer=chosen)),
        best=1,
        meta={"preference": True, **meta},
    )


def encoder(kind: str = "bytes", chosen: Any = "stablevicuna", length: int = 256, **more: Any) -> PairEncoder:
    made = tokenizer(kind)
    made.chat_template = CHATML
    return PairEncoder(made, chosen, length, **more)


def pair(chain: Chain, **more: Any) -> tuple[Example, Example]:
    found = encoder(**more).encode(chain)
    assert not isinstance(found, Skipped), found
    return found


def text(example: Example, kind: str = "bytes", start: int = 0) -> str:
    return str(tokenizer(kind).decode(example.ids[start:].tolist(), clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", ["stablevicuna", "vicuna", "selfee"])
def test_both_have_prompt_and_answer_and_the_stop_token(kind: str, chosen: Any) -> None:
    good, bad = pair(chosen_over("Red, it is.", "Red!"), kind=kind, chosen=chosen)
    stop = tokenizer(kind).eos_token_id
    assert (good.ids[-1], bad.ids[-1]) == (stop, stop)
    assert text(good, kind).endswith("Red, it is." + tokenizer(kind).eos_token)
    assert text(bad, kind).endswith("Red!" + tokenizer(kind).eos_token)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_marked_from_where_the_answers_part(kind: str) -> None:
    good, bad = pair(chosen_over("Red, it is.", "Red!"), kind=kind)
    parts = int(np.argmax(good.trained))
    assert parts == int(np.argmax(bad.trained))
    assert np.array_equal(good.ids[:parts], bad.ids[:parts])
    assert good.ids[parts] != bad.ids[parts]
    assert all(each.trained[parts:].all() for each in (good, bad))


def test_nothing_follows_the_stop_token_of_a_template() -> None:
    """ChatML writes a line end after it, which no model generates."""
    good, _ = pair(chosen_over("Red.", "Green."), chosen="chat")
    assert text(good).endswith("Red.<|im_end|>")


def test_an_answer_alone_reads_as_in_its_pair() -> None:
    good, bad = pair(chosen_over("Red, it is.", "Red!"))
    for example, answer in ((good, "Red, it is."), (bad, "Red!")):
        assert np.array_equal(encoder().read(ASKED, answer).ids, example.ids)


def test_a_long_conversation_loses_its_middle_in_both_at_the_same_place() -> None:
    turns = [
        {"role": role, "content": f"{role} {number} " + "word " * 15}
        for number in range(4)
        for role in ("user", "assistant")
    ]
    prompt = Prompt(messages=(*turns, {"role": "user", "content": "And now?"}))
    good, bad = pair(chosen_over("Yes " * 5 + "good.", "No.", prompt), length=128)
    assert len(good.ids) == 128
    assert good.cut.prompt == bad.cut.prompt > 60  # more than any single turn has
    assert "good." in text(good)
    assert text(bad, start=int(np.argmax(good.trained))).strip().startswith("No.")


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (chosen_over("Same.", "Same. "), "chosen and rejected are equal"),
        (chosen_over("", "No."), "an empty answer"),
        (chosen_over("Yes.", " \n"), "an empty answer"),
        (chosen_over("a b c " * 100 + "x", "a b c " * 100 + "y"), "equal up to the length limit"),
        (chosen_over("Yes.", "No.", Prompt()), "no question"),
        (
            Chain(prompt=Prompt(instruction="Q"), steps=(Step(answer="A"),), best=0),
            "the best answer is the first",
        ),
        (Chain(prompt=Prompt(instruction="Q")), "no pair of a chosen and a rejected answer"),
    ],
    ids=["equal", "empty chosen", "empty rejected", "equal when cut", "no question", "one answer", "none"],
)
def test_what_is_no_pair_is_left_out_with_its_reason(chain: Chain, reason: str) -> None:
    found = encoder(length=64).encode(chain)
    assert isinstance(found, Skipped)
    assert reason in found.reason


def test_a_rejected_draft_stands_against_its_accepted_revision() -> None:
    steps = (
        Step(answer="32", feedback=Feedback(text="Wrong.", verdict="revise")),
        Step(answer="42", feedback=Feedback(text="Right.", verdict="accept")),
    )
    chain = Chain(prompt=Prompt(instruction="Add 17 and 25."), steps=steps, best=1)
    good, bad = pair(chain)
    assert "42" in text(good)
    assert "32" in text(bad)
    doubtful = (steps[0], steps[1].model_copy(update={"feedback": steps[0].feedback}))
    found = encoder().encode(chain.model_copy(update={"steps": doubtful}))
    assert found == Skipped("no correction was judged better than the first answer")


def test_what_decides_a_pair_decides_the_fingerprint() -> None:
    others = ({"length": 100}, {"chosen": "vicuna"}, {"kind": "llama"}, {})
    assert len({encoder(**each).fingerprint for each in others}) == 4
    assert encoder().fingerprint == encoder().fingerprint


def test_a_prompt_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(RecordError, match="no question"):
        encoder().read(Prompt(instruction=" "), "A.")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_answer_is_read_as_the_stop_token(kind: str) -> None:
    made, asked = encoder(kind=kind), Prompt(instruction="Why?")
    full = made.read(asked, "Because.").ids.tolist()
    for empty in ("", " \n"):
        found = made.read(asked, empty).ids.tolist()
        assert found[-1] == full[-1] == tokenizer(kind).eos_token_id
        assert found[:-1] == full[: len(found) - 1]
        assert len(found) < len(full)


def reply(
    name: str, text: str, rank: int | None = None, *replies: Any, role: str = "assistant", **more: Any
) -> dict[str, Any]:
    return {"message_id": name, "role": role, "text": text, "rank": rank, "replies": replies, **more}


AGAIN = reply("u", "And?", 0, reply("d", "Worse.", 1), reply("e", "Better.", 0), role="prompter")
REPLIES = (
    reply("b", "Second.", 1),
    reply("a", "Best.", 0, AGAIN, reply("v", "Or?", 1, role="prompter")),
    reply("c", "Third.", 2),
    reply("x", "Unranked."),
    reply("y", "Deleted.", 0, deleted=True),
)
TREE = {"message_tree_id": "t", "prompt": reply("q", "Why?", None, *REPLIES, role="prompter")}


def read(tmp_path: Path, *records: Any) -> list[Chain]:
    path = write(tmp_path / "data.jsonl", records)
    return [chain for raw in raw_records(path) for chain in encoder().chains(raw)]


def test_ranked_replies_of_a_message_are_pairs(tmp_path: Path) -> None:
    found = {chain.id: chain for chain in read(tmp_path, TREE)}
    assert set(found) == {"data/a>b", "data/a>c", "data/b>c", "data/e>d"}
    deeper = found["data/e>d"]
    assert [message["content"] for message in deeper.prompt.messages or ()] == ["Why?", "Best.", "And?"]
    assert (deeper.steps[0].answer, deeper.answer) == ("Worse.", "Better.")
