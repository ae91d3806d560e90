from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, content_of
from redraft.chain.read.records import chain_of
from redraft.chain.read.shapes import read_tree
from redraft.errors import RecordError


def say(text: str, *replies: Any, role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"message_id": f"<{text}>", "text": text, "role": role, "replies": list(replies), **more}


def ask(text: str, *replies: Any, **more: Any) -> dict[str, Any]:
    return say(text, *replies, role="prompter", **more)


def tree(root: dict[str, Any]) -> dict[str, Any]:
    return {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": root}


def said(chain: Chain) -> str:
    asked = chain.prompt.messages or ({"content": chain.prompt.instruction},)
    return "".join(map(content_of, asked)) + chain.answer


def paths(root: dict[str, Any]) -> list[str]:
    return [said(chain) for _, chain in read_tree(tree(root), "f:1")]


def best(root: dict[str, Any]) -> str:
    return said(chain_of(tree(root), "f:1"))


def test_every_path_ends_in_an_answer_and_none_is_part_of_another() -> None:
    root = ask(
        "a",
        say("b", ask("c", say("d", rank=1), say("e", rank=0)), ask("f"), rank=1),
        say("g", ask("h"), ask("i"), rank=0),
        say("j"),
    )
    assert (paths(root), best(root)) == (["ag", "abce", "abcd", "aj"], "ag")
    assert best(ask("a", say("b", ask("c"), ask("d", say("e"))))) == "abde"  # goes on where it is answered


def test_what_was_deleted_is_no_path_nor_what_follows_it() -> None:
    assert paths(
        ask("a", say("b", ask("c", say("d")), deleted=True, rank=0), say("e", rank=1), ask("f", deleted=True))
    ) == ["ae"]
    with pytest.raises(RecordError, match="f:1: prompt was deleted"):
        paths(ask("a", say("b"), deleted=True))


def test_a_question_without_an_answer_is_a_question() -> None:
    assert paths(ask("a", ask("b"))) == ["a"]
    assert chain_of(tree(ask("a")), "f:1").steps == ()


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (ask("a", {"role": "assistant"}), "f:1: prompt.replies: text is missing"),
        (
            ask("a", say("b", {"role": "x", "text": "c"})),
            "f:1: prompt.replies.replies: role should be one of",
        ),
        (ask("a", "b"), "f:1: prompt: replies.0 should be an object (found 'b')"),
        ({"role": "prompter", "text": "a", "replies": 3}, "f:1: prompt: replies should be a list (found 3)"),
    ],
)
def test_a_bad_message_is_named_by_its_place(root: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=re.escape(message)):
        paths(root)


trees = st.recursive(
    st.just([]),
    lambda replies: st.lists(st.tuples(st.booleans(), replies, st.none() | st.integers(0, 3)), max_size=3),
    max_leaves=20,
)


@given(trees)
def test_any_tree_loses_no_answer(shape: Any) -> None:
    answers: set[str] = set()

    def grow(name: str, role: bool, replies: Any) -> dict[str, Any]:
        answers.update([name] if role else [])
        grown = [
            {**grow(f"{name}{i}", answer, below), "rank": rank}
            for i, (answer, below, rank) in enumerate(replies)
        ]
        return say(f"{name}/", *grown, role="assistant" if role else "prompter")

    root = grow("0", False, shape)
    talks = [said(chain).split("/")[:-1] for _, chain in read_tree(tree(root), "f:1")]
    assert {name for talk in talks for name in talk} >= answers
    assert len({tuple(talk) for talk in talks}) == len(talks)
    if answers:
        assert all(talk[-1] in answers for talk in talks)
        assert said(chain_of(tree(root), "f:1")).split("/")[:-1] == talks[0]


@pytest.mark.parametrize(
    ("asks", "answers"), [("human", "chatgpt"), ("User", "Assistant"), ("prompter", "bard")]
)
@pytest.mark.parametrize("field", ["messages", "conversations"])
def test_roles_have_other_names_too(field: str, asks: str, answers: str) -> None:
    said = [{"role": asks, "content": "Hi."}, {"role": answers, "content": "Hello."}]
    chain = chain_of({field: said})
    assert (chain.prompt.instruction, chain.answer) == ("Hi.", "Hello.")
    said = [{"from": asks.upper(), "value": "Hi."}, {"from": answers.upper(), "value": "Hello."}]
    assert chain_of({"conversations": said}).answer == "Hello."


def test_roles_that_are_not_known_stay() -> None:
    said = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    assert chain_of({"messages": said}).prompt.messages == tuple(said)
