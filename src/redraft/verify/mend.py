"""Mend an answer without a model: only its form, and only where there is one way.

A mend is tried and then checked, so that it never returns what fails.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from redraft.engines.threads import in_daemon_thread
from redraft.verify.base import Check, Fixing, ask_no_more, fix_of

SECONDS = 5.0  # a `fix` that takes longer hangs
_PAIRS = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"))
_MARKS = ".,:!?…。！？"


async def mended_by(checks: Sequence[Check], answer: str) -> str:
    """Return an answer as its checks mend it in turn. They run in a thread, where one may hang."""
    mending = [check for check in checks if isinstance(check, Fixing)]
    if not mending:
        return answer
    work = in_daemon_thread(lambda: in_turn(mending, answer))
    await asyncio.wait([work], timeout=SECONDS)
    if work.done():
        return work.result()
    work.add_done_callback(asyncio.Future.exception)
    for check in mending:
        ask_no_more(check, "fix", f"was one of {len(mending)} that took longer than {SECONDS:g} s together")
    return answer


def in_turn(checks: Sequence[Check], answer: str) -> str:
    """Return an answer as checks mend it in turn; the answer itself if they undo each other's work."""

    def mend(text: str) -> str:
        for check in checks:
            text = fix_of(check, text)
        return text

    mended = mend(answer)
    return mended if mend(mended) == mended else answer


def first_passing(answer: str, ways: Iterable[str], passes: Callable[[str], bool]) -> str:
    """Return the answer if it passes, else the first of several mended ones that does, else the answer."""
    if passes(answer):
        return answer
    return next((text for text in ways if passes(text)), answer)


def unquoted(answer: str) -> str:
    """Return an answer without the quotation marks around the whole of it, if there are no others."""
    text = answer.strip()
    for first, last in _PAIRS:
        inside = text[1:-1]
        if len(text) > 2 and text[0] == first and text[-1] == last and not {first, last} & set(inside):
            return inside.strip()
    return answer


def quoted(answer: str) -> str:
    """Return an answer in straight quotation marks, unless it begins or ends with one."""
    text = unquoted(answer).strip()
    return answer if '"' in (text[:1], text[-1:]) else f'"{text}"'


def opened(answer: str, phrase: str) -> Iterator[str]:
    """Yield the ways to make an answer begin with a phrase. Only one with a mark at its end is added."""
    yield unquoted(answer)
    if phrase.rstrip().endswith(tuple(_MARKS)) and re.search(r"\w", phrase):
        yield f"{phrase.strip()}\n\n{answer.strip()}"


def closed(answer: str, phrase: str) -> Iterator[str]:
    """Yield the ways to make an answer end with a phrase.

    Without what follows it; with its last mark in place of another; or with it as a last line, if it looks
    like one: it begins with a capital letter, or ends with a mark.
    """
    text, phrase = answer.strip(), phrase.strip()
    yield unquoted(text)
    stem, end = text.rstrip(f"{_MARKS}*_\"' "), phrase.rstrip(_MARKS)
    if stem:
        yield stem
        yield stem + phrase[len(end) :]
    if phrase[:1].isupper() or (re.search(r"\w", phrase) and phrase.endswith(tuple(_MARKS))):
        yield f"{text}\n\n{phrase}"


def unfenced(answer: str) -> str:
    """Return what is in the one fence that an answer is; a fence at its end alone goes, too."""
    text = answer.strip()
    found = re.fullmatch(r"(?:(`{3,}|~{3,})[^\n`]*\n)?(.*?)(?:\n(?:`{3,}|~{3,}))?", text, re.DOTALL)
    return found[2].strip() if found else answer


def fenced_json(answer: str, is_json: Callable[[str], bool]) -> Iterator[str]:
    """Yield the ways to make the JSON in an answer the JSON of the answer. Talk around it is kept."""
    text = answer.strip()
    yield unfenced(text)
    yield f"{text}\n```"  # the fence is not closed
    fences = list(
        re.finditer(r"^[ \t]*```([^\n`]*)\n(.*?)\n[ \t]*```[ \t]*$", text, re.DOTALL | re.MULTILINE)
    )
    if len(fences) == 1 and is_json(fences[0][2]):
        yield f"{text[: fences[0].start(1)]}json{text[fences[0].end(1) :]}"
    bare = re.fullmatch(r"([^][{}`]*)(\{.+\}|(?<=\n)\[.+\](?=\n|\Z))([^][{}`]*)", text, re.DOTALL)
    if bare and is_json(bare[2]):
        yield "\n".join(filter(None, (bare[1].strip(), "```json", bare[2], "```", bare[3].strip())))
