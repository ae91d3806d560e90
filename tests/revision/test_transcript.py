"""The tokens and the text of a native chain agree, whatever an engine holds back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.base import Delta
from redraft.revision.native import Transcript

EOS = 0


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def text_of(written: Transcript) -> str:
    return "".join(map(chr, written.as_prompt()))  # type: ignore[arg-type]


def force(written: Transcript, text: str, *, heading: bool = False) -> None:
    """Run `force` with a tokenizer of one character a token."""
    steps = written.force(text, heading=heading)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(ids(asked.text))  # type: ignore[union-attr]
    except StopIteration:
        return


def test_a_stop_string_that_begins_inside_a_token_is_cut_as_a_whole() -> None:
    written = Transcript(prompt=())
    written.add(Delta(text="Fine.", tokens=ids("Fine.")))
    written.add(Delta(tokens=(777,)))  # " not", held back
    written.add(Delta(text=" ", tokens=(778,)))  # " needed", of which only the space is text
    written.add(Delta(finish="stop", stop_text="not needed"))
    force(written, "Revision is needed")
    assert text_of(written) == "Fine. Revision is needed"


def test_text_that_comes_with_the_end_is_encoded_again_and_the_end_is_not_kept() -> None:
    written = Transcript(prompt=())
    written.add(Delta(text="Is it?", tokens=ids("Is it?")))
    written.add(Delta(tokens=(*ids(" No"), EOS)))  # held back as the beginning of a stop string
    written.add(Delta(text=" No", finish="stop"))
    force(written, "\n\n### Feedback 1:\n", heading=True)
    assert text_of(written) == "Is it? No\n\n### Feedback 1:\n"


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.booleans()), max_size=8), st.booleans())
def test_tokens_are_those_of_the_text(pieces: list[tuple[str, bool]], heading: bool) -> None:
    written = Transcript(prompt=ids("Q:"))
    said = ""
    for piece, forced in pieces:
        if forced:
            force(written, piece)
        else:
            written.add(Delta(text=piece, tokens=ids(piece)))
        said += piece
    force(written, "\n\n### X", heading=heading)
    assert text_of(written) == "Q:" + (said.rstrip() if heading else said) + "\n\n### X"
