from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.remote.wire import EventParser


def parse(*pieces: bytes) -> list[str]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]), (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]), (b"data:a\n\n", ["a"]),
        (b"data:  two spaces\n\n", [" two spaces"]), (b": ping\n\n: ping\n\ndata: a\n\n", ["a"]),
        (b"event: delta\nid: 7\nretry: 3\ndata: a\n\n", ["a"]), (b"data: {\ndata: }\n\n", ["{\n}"]),
        (b"data\n\n", [""]), (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: no empty line after", ["no empty line after"]), (b"", []),
        ("data: a\u2028b\x85c\n\n".encode(), ["a\u2028b\x85c"]),
    ],
)  # fmt: skip
def test_stream(stream: bytes, events: list[str]) -> None:
    assert parse(stream) == events


def test_an_event_comes_out_as_soon_as_it_is_whole() -> None:
    parser = EventParser()
    assert (parser.feed(b"data: a\n"), parser.feed(b"\ndata: b")) == ([], ["a"])
    assert parser.feed(b"\r\n\r\n") == ["b"]


texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(st.lists(texts), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_events_survive_any_cut(events: list[str], end: bytes, data: st.DataObject) -> None:
    stream = b"".join(b"data: " + event.encode() + end + b": ping" + end + end for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*pieces) == events
