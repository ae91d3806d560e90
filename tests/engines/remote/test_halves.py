"""Characters that a server cut in two, joined again whatever the cuts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.remote.sse import Halves


def joined(pieces: Sequence[str]) -> str:
    halves = Halves()
    return "".join([*(halves.add(piece) for piece in pieces), halves.end()])


def units(text: str) -> list[str]:
    """The text as a server sends it that cuts between UTF-16 units."""
    raw = text.encode("utf-16-le", "surrogatepass")
    return [chr(int.from_bytes(raw[at : at + 2], "little")) for at in range(0, len(raw), 2)]


def escaped_bytes(text: str) -> list[str]:
    """The text as it is read from a server that cuts between bytes."""
    return [bytes([byte]).decode("utf-8", "surrogateescape") for byte in text.encode()]


def cut(letters: Sequence[str], places: Sequence[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(letters) + 1) for place in places), len(letters)]
    return ["".join(letters[a:b]) for a, b in pairwise(bounds)]


@given(st.text(), st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_is_joined(text: str, places: list[int]) -> None:
    assert joined(cut(units(text), places)) == text
    assert joined(cut(escaped_bytes(text), places)) == text


@given(st.text(st.characters(codec=None), max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_no_half_ever_comes_out(text: str, places: list[int]) -> None:
    joined(cut(text, places)).encode()


def test_what_is_whole_is_not_held_back() -> None:
    halves = Halves()
    assert [halves.add(piece) for piece in ("a\ud83d", "\ude00b", "é🦜")] == ["a", "😀b", "é🦜"]
    assert halves.end() == ""


@pytest.mark.parametrize("text", ["a\ud83d", "a\udcf0\udc9f"])
def test_half_a_character_that_stays_alone_is_replaced(text: str) -> None:
    assert joined([text]) == "a\ufffd"
    assert joined([text, "b"]) == "a\ufffdb"
