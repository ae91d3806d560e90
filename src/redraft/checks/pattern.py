"""Search a model's text for a user's regular expression, within a time limit.

A pattern such as `^(a+)+$` backtracks forever on some texts. Python's `re` blocks the interpreter meanwhile,
so neither Ctrl-C nor a budget stops a search. The module `regex` has a time limit and lets other threads run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice

import regex

REGEX_SECONDS = 2.0  # time limit of a search, in processor time, so that other work does not count

MAX_EXPANDED = 100_000
"""The longest pattern, with counts expanded: `a{9}` has 9 characters. Compiling takes up to about 100 MB."""

BACKTRACKS = "The pattern backtracks without end: look for a repeat within a repeat, such as (a+)+."
"""The hint for a search that took too long."""

_TOKEN = regex.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*+\]|\{(?P<count>\d{1,9})(?:,\d*)?\}|.", regex.DOTALL)

_limit: ContextVar[tuple[float, float]] = ContextVar("limit", default=(float("inf"), 0))
"""The thread's processor time at which `within` ends, and the limit in seconds."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the thread's processor time in a `with` block that compiles patterns or applies schemas.

    In nested blocks, the earliest end counts.
    """
    before = _limit.set(min(_limit.get(), (time.thread_time() + seconds, seconds)))
    try:
        yield
    finally:
        _limit.reset(before)


def late() -> str:
    """Return "it took longer than …" after the time limit of `within`; otherwise return an empty text."""
    deadline, seconds = _limit.get()
    return f"it took longer than {seconds:g} s" if time.thread_time() > deadline else ""


class BadPattern(ValueError):
    """An unusable pattern. The message is a clause without a full stop."""


def readable(text: str) -> str:
    """Replace digits that Python's `int` cannot read. The replacement is U+FFFD."""
    return regex.sub(r"(?![0-9])\p{Nd}", lambda digit: digit[0] if digit[0].isdecimal() else "\ufffd", text)


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> regex.Pattern[str]:
    """Compile a pattern. Raise `BadPattern` if it is invalid or too large, or the time limit has passed."""
    if reason := late():
        raise BadPattern(f"{reason} to compile this pattern and the earlier ones")
    try:
        if _expanded(pattern) > MAX_EXPANDED:
            raise BadPattern(f"it has more than {MAX_EXPANDED:,} characters with counts expanded")
        # The cache of `regex` would draw from the user's `random` to evict entries.
        return regex.compile(pattern, cache_pattern=False)
    except RecursionError:
        raise BadPattern("it is nested too deeply") from None
    except regex.error as error:
        position = int(getattr(error, "pos", None) or 0) + 1  # the stubs lack `pos`
        raise BadPattern(f"{str(error).split(' at position')[0]} at character {position}") from None


def search(pattern: str, text: str, most: int = 1) -> list[regex.Match[str]]:
    """Return the first `most` matches. Raise TimeoutError after about `REGEX_SECONDS` of processor time."""
    found, seconds = compiled(pattern), REGEX_SECONDS
    while True:
        begun = time.thread_time()
        try:
            return list(islice(found.finditer(text, timeout=seconds, concurrent=True), most))
        except TimeoutError:
            # `regex` counts the processor time of all threads, so others may have used this one's.
            if time.thread_time() - begun >= REGEX_SECONDS:
                raise
            seconds *= 2


def _expanded(pattern: str) -> int:
    lengths, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        if token[0] == "(":
            lengths.append(0)
            continue
        if token["count"]:
            last *= max(int(token["count"]) - 1, 0)
        else:
            last = lengths.pop() if token[0] == ")" and len(lengths) > 1 else 1
        lengths[-1] += last
    return sum(lengths)
