"""The set of ids: it agrees with a set of texts, and stays small."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from redraft.jobs import ids
from redraft.jobs.ids import IdSet


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
    """Hashes that differ in their high bits alone begin at the same slot, the last of the table."""
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
