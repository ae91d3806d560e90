"""The set of ids: it agrees with a set of texts, and stays small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import UsageError
from redraft.jobs import ids
from redraft.jobs.ids import IdSet, Share, share_of


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_it_agrees_with_a_set(added: list[str], asked: list[str]) -> None:
    found, known = IdSet(), set()
    for item_id in added:
        found.add(item_id)
        known.add(item_id)
        assert len(found) == len(known)
    assert [item_id in found for item_id in [*added, *asked]] == [
        item_id in known for item_id in [*added, *asked]
    ]


def test_equal_places_in_the_table_are_told_apart(monkeypatch: object) -> None:
    numbers = {f"{n}": (n << 32) | 63 for n in range(1, 30)}
    digest, ids.digest_of = ids.digest_of, numbers.__getitem__
    try:
        found = IdSet(list(numbers)[:20])
        assert [name in found for name in numbers] == [True] * 20 + [False] * 9
    finally:
        ids.digest_of = digest


def test_a_hundred_thousand_take_two_megabytes() -> None:
    found = IdSet(f"prompts/{number}" for number in range(100_000))
    assert len(found) == 100_000
    assert "prompts/99999" in found
    assert "prompts/100000" not in found
    assert sys.getsizeof(found._table) < 2.2e6


# Shares: each id in exactly one, whoever counts.


@given(st.text(), st.integers(1, 50))
def test_each_id_is_in_one_share(name: str, count: int) -> None:
    assert sum(Share(index, count).holds(name) for index in range(count)) == 1


def test_shares_are_about_as_large_as_each_other() -> None:
    held = [sum(Share(index, 8).holds(f"prompts/{n}") for n in range(8000)) for index in range(8)]
    assert min(held) > 900
    assert max(held) < 1100


def test_a_share_has_files_of_its_own() -> None:
    assert Share(3, 8).path(Path("a/out.jsonl")) == Path("a/out-00003-of-00008.jsonl")
    assert Share(0, 2).path(Path("runs")) == Path("runs-00000-of-00002")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9/8", "0/8 to 7/8"), ("1/1", "0/1."), ("0/0", "1 to 99,999"), ("-1/8", "--shard 0/8"),
        ("auto", "--shard 0/8"),
    ],
)  # fmt: skip
def test_what_is_no_share_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        share_of(text)
    assert said in f"{caught.value.message} {caught.value.hint}"
