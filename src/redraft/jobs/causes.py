"""Why items failed, in a few words that can be counted."""

from __future__ import annotations

import re
from collections import Counter

from redraft.errors import (
    CheckError,
    ContextError,
    EmptyReply,
    EngineTimeout,
    RecordError,
    RedraftError,
    ServerError,
)

FILTER = re.compile(
    r"content[ _-]?(filter|policy|management|exists risk)|moderation|usage polic|inappropriate content", re.I
)
"""What servers say of a text that they refuse for its content."""

UNFIT = "bad prompt"
"""The cause of an item that fails again each time, whatever the model does."""

_WORDS: dict[type[RedraftError], str] = {
    CheckError: "check crashed",
    ContextError: "prompt too long",
    EmptyReply: "empty reply",
    EngineTimeout: "timeout",
    RecordError: UNFIT,
}


def cause_of(error: RedraftError) -> str:
    """Return the cause of a failure, such as `rate limit` or `content filter`."""
    if isinstance(error, ServerError | EmptyReply) and FILTER.search(error.message):
        return "content filter"
    if isinstance(error, EmptyReply) and "the budget was used up" in error.message:
        return "budget used up"
    if isinstance(error, ServerError):
        return _of_server(error)
    return _WORDS.get(type(error), "engine error")


def _of_server(error: ServerError) -> str:
    if error.status is None:
        return "broken reply" if error.passing else "no usable reply"
    if error.status == 429:
        return "rate limit"
    return "server error" if error.status >= 500 else "request refused"


def in_words(causes: Counter[str]) -> str:
    """Return counts as `rate limit 3, content filter 2`, most frequent first."""
    return ", ".join(f"{cause} {count:,}" for cause, count in causes.most_common())
