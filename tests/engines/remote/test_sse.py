"""Server-sent events, and characters between two of them: every way in which servers write and cut them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.remote.wire import EventParser, Halves


def parse(*pieces: bytes) -> list[str]:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  two spaces\n\n", [" two spaces"]),
        (b": ping\n\n: ping\n\ndata: a\n\n", ["a"]),
        (b"event: delta\nid: 7\nretry: 3\ndata: a\n\n", ["a"]),
        (b"data: {\ndata: }\n\n", ["{\n}"]),
        (b"data\n\n", [""]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: no empty line after", ["no empty line after"]),
        (b"", []),
        ("data: a\u2028b\x85c\n\n".encode(), ["a\u2028b\x85c"]),
    ],
)
def test_stream(stream: bytes, events: list[str]) -> None:
    assert parse(stream) == events


def test_an_event_comes_out_as_soon_as_it_is_whole() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b") == ["a"]
    assert parser.feed(b"\r\n\r\n") == ["b"]


texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(texts), line_ends, st.data())
def test_events_survive_any_cut(events: list[str], end: bytes, data: st.DataObject) -> None:
    stream = b"".join(b"data: " + event.encode() + end + b": ping" + end + end for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*pieces) == events


def joined(pieces: Sequence[str]) -> str:
    halves = Halves()
    return "".join([*(halves.add(piece) for piece in pieces), halves.end()])


def units(text: str) -> list[str]:
    """The text as a server sends it that cuts between UTF-16 units."""
    raw = text.encode("utf-16-le", "surrogatepass")
    return [chr(int.from_bytes(raw[at : at + 2], "little")) for at in range(0, len(raw), 2)]


def cut(letters: Sequence[str], places: Sequence[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(letters) + 1) for place in places), len(letters)]
    return ["".join(letters[a:b]) for a, b in pairwise(bounds)]


@given(st.text(), st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_is_joined(text: str, places: list[int]) -> None:
    assert joined(cut(units(text), places)) == text


@given(st.text(st.characters(codec=None), max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_no_half_ever_comes_out(text: str, places: list[int]) -> None:
    assert not any("\ud800" <= char <= "\udfff" for char in joined(cut(text, places)))


def test_what_is_whole_is_not_held_back() -> None:
    halves = Halves()
    assert [halves.add(piece) for piece in ("a\ud83d", "\ude00b", "é🦜")] == ["a", "😀b", "é🦜"]
    assert halves.end() == ""


@pytest.mark.parametrize("text", ["a\ud83d"])
def test_half_a_character_that_stays_alone_is_replaced(text: str) -> None:
    assert joined([text]) == "a\ufffd"
    assert joined([text, "b"]) == "a\ufffdb"
