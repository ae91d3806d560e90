"""Which duplicate is kept, whatever the order of the input."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.chain import Chain
from redraft.chain.read.records import RawRecord, chain_of
from redraft.data.dedupe import By, Duplicate, Entry, Likeness, examine, sift

USUAL: dict[By, Likeness] = {
    "exact": Likeness("exact", "all"),
    "query": Likeness("query", "query"),
    "rouge": Likeness("rouge", "instruction", 0.7),
    "minhash": Likeness("minhash", "all", 0.8),
}
WAYS = get_args(By)
WORDS = ["Write", "a", "poem", "about", "rain", "or", "snow"]


@pytest.fixture(autouse=True, scope="module")
def _parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redraft.data.dedupe._SORTED", 3)  # so that parts are merged
        yield


def entry(record: dict[str, Any], like: Likeness, index: int = 0) -> Entry:
    chain = RawRecord(f"in:{index}", "in", index, json.dumps(record).encode()).chain()
    return examine(chain, f"in:{index}", like)


def run(records: list[dict[str, Any]], like: Likeness, **settings: Any) -> list[Chain | Duplicate]:
    entries = [entry(record, like, index) for index, record in enumerate(records)]
    known = [entry(record, like) for record in settings.pop("against", [])]
    found = sift(entries, like, io.BytesIO(), against=known, **settings)
    return [Chain.from_json(each) if isinstance(each, bytes) else each for each in found]


def kept_ids(records: list[dict[str, Any]], like: Likeness, **settings: Any) -> list[str]:
    return [each.id.removeprefix("in/") for each in run(records, like, **settings) if isinstance(each, Chain)]


def asked(name: str, text: str, output: str = "", **more: str) -> dict[str, Any]:
    return {"id": name, "instruction": text, "output": output, **more}


@pytest.mark.parametrize("by", WAYS)
def test_a_copy_goes_and_says_what_is_kept(by: By) -> None:
    first = "Write a poem about the rain in spring."
    records = [asked("a", first), asked("b", "Name three rivers of France."), asked("c", first.upper() + " ")]
    kept, other, gone = run(records, USUAL[by])
    if isinstance(kept, Duplicate):
        kept, gone = gone, kept
    assert isinstance(kept, Chain)
    assert isinstance(other, Chain)
    assert isinstance(gone, Duplicate)
    assert (gone.rule, gone.kept, gone.similarity) == (by, kept.id, 1.0)
    assert gone.kept in gone.reason
    assert gone.where in {"in:0", "in:2"}
    assert gone.record["id"] == gone.id


talks = st.builds(
    asked,
    st.sampled_from("abcdefgh"),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    st.sampled_from(["", "Rain.", "It is a poem about rain."]),
)


@pytest.mark.parametrize("by", WAYS)
@settings(max_examples=settings.default.max_examples // 2)
@given(records=st.lists(talks, min_size=2, max_size=12), seed=st.integers(0, 9))
def test_what_is_kept_does_not_depend_on_the_order(by: By, records: list[dict[str, Any]], seed: int) -> None:
    def kept(records: list[dict[str, Any]], *, named: bool) -> list[str]:
        chains = [
            chain_of(record).model_copy(
                update={
                    "id": f"in/{record['id'] if named else place}",
                    "meta": {"origin": {"dataset": "in", "licence": "MIT", "file": "in", "record": place}},
                }
            )
            for place, record in enumerate(records)
        ]
        found = run([json.loads(chain.to_json()) for chain in chains], USUAL[by])
        best = [each for each in found if isinstance(each, Chain)]
        return sorted(each.id * named + each.prompt.text + each.answer for each in best)

    mixed = random.Random(seed).sample(records, len(records))
    assert kept(mixed, named=True) == kept(records, named=True)
    assert kept(mixed, named=False) == kept(records, named=False)


@pytest.mark.parametrize("by", WAYS)
@settings(max_examples=settings.default.max_examples // 2)
@given(records=st.lists(talks, max_size=12))
def test_doing_it_twice_changes_nothing(by: By, records: list[dict[str, Any]]) -> None:
    once = [each for each in run(records, USUAL[by]) if isinstance(each, Chain)]
    assert run([json.loads(each.to_json()) for each in once], USUAL[by]) == once


def test_the_best_is_answered_then_long() -> None:
    question = "What is the capital of France?"
    long = {"id": "long", "instruction": question + " " * 50}
    answered, better = asked("answered", question, "Paris"), asked("better", question, "Paris, on the Seine")
    like = USUAL["query"]
    assert kept_ids([long, answered], like) == ["answered"]
    assert kept_ids([answered, better, long], like) == ["better"]
    spaces = [asked("b", "How do  I   fix a tyre?       "), asked("a", " How do I fix a tyre?")]
    assert kept_ids([*spaces, asked("c", "How do I fix a tyre?")], USUAL["exact"]) == ["c"]
    flat = [asked("line", "if a:  b() c()"), asked("flat", "if a:\nb()\nc()")]
    assert kept_ids([*flat, asked("code", "if a:\n  b()\nc()")], USUAL["exact"]) == ["code"]


def test_exact_looks_at_all_that_is_said_and_query_at_the_first_question() -> None:
    talk = [
        {"from": "human", "value": "Hi, who are you?"},
        {"from": "gpt", "value": "A model."},
        {"from": "human", "value": "Which?"},
        {"from": "gpt", "value": "I do not know."},
    ]
    records: list[dict[str, Any]] = [
        {"id": "long", "conversations": talk},
        {"id": "short", "conversations": talk[:2]},
        {"id": "copy", "conversations": [{**turn, "value": turn["value"].upper()} for turn in talk[:2]]},
    ]
    assert len(kept_ids(records, USUAL["exact"])) == 2
    assert kept_ids(records, USUAL["query"]) == ["long"]


def test_instructions_with_different_inputs_are_different_tasks() -> None:
    records = [
        asked("a", "Sum the list", "12", input="3, 4, 5"),
        asked("b", "Sum the list", "16", input="1, 2, 3, 4, 6"),
        asked("c", "Sum the list."),
        asked("copy", "Sum the list!", input=" 3, 4, 5 "),
    ]
    assert kept_ids(records, USUAL["rouge"]) == ["a", "b", "c"]


def test_how_far_the_comparing_is_can_be_followed() -> None:
    told: list[tuple[int, int]] = []
    records = [asked(str(i), f"Question {i}?") for i in range(130)]
    run(records, USUAL["rouge"], compared=lambda done, total: told.append((done, total)))
    assert told == [(0, 130), (64, 130), (128, 130)]


@pytest.mark.parametrize("by", WAYS)
def test_records_of_another_file_come_before_all(by: By) -> None:
    text = "Write a poem about the rain in spring."
    known = [asked("pool/1", text), asked("pool/2", text)]
    found = run(
        [asked("new", text, "Drip, drop."), asked("other", "Name three rivers of France.")],
        USUAL[by],
        against=known,
    )
    if by in ("exact", "minhash"):  # the answer is looked at too
        assert len(found) == 2
        found = run([asked("new", text)], USUAL[by], against=known)
    assert isinstance(found[0], Duplicate)
    assert found[0].kept in {"in/pool/1", "in/pool/2"}
    assert all(isinstance(each, Chain) for each in found[1:])


@pytest.mark.parametrize("by", WAYS)
def test_what_says_nothing_is_like_nothing(by: By) -> None:
    records: list[dict[str, Any]] = [{"id": name, "prompt": " \n"} for name in "abc"]
    assert kept_ids(records, USUAL[by]) == ["a", "b", "c"]


def test_similarity_is_that_to_the_kept_one_though_a_third_stands_between() -> None:
    base = [f"w{i}" for i in range(40)]
    texts = [" ".join(base), " ".join(base[4:]), " ".join(base[8:])]
    found = run([asked(str(i), text) for i, text in enumerate(texts)], USUAL["minhash"])
    assert [each.kept for each in found if isinstance(each, Duplicate)] == ["in/0", "in/0"]
    assert [round(each.similarity, 3) for each in found if isinstance(each, Duplicate)] == [0.895, 0.789]
