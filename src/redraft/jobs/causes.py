"""Name the causes of failed items, and decide whether an error affects only one item or the whole job."""

from __future__ import annotations

import re
from collections import Counter

from redraft import errors

FILTER = re.compile(
    r"content[ _-]?(filter|policy|management|exists risk)|moderation|usage polic|inappropriate content", re.I
)
"""Matches the error messages of content filters."""

UNFIT = "bad prompt"  # the cause of an item that always fails, whatever the model does
_REFUSED = frozenset({400, 413, 422})  # HTTP statuses by which a server refuses a request for its content
_HOPELESS = frozenset({401, 402, 403, 404, 405})  # HTTP statuses that every other request would get too

_WORDS: dict[type[errors.RedraftError], str] = {
    errors.CheckError: "check crashed",
    errors.ContextError: "prompt too long",
    errors.EmptyReply: "empty reply",
    errors.EngineTimeout: "timeout",
    errors.RecordError: UNFIT,
}


def cause_of(error: errors.RedraftError) -> str:
    """Return the cause of a failure, such as `rate limit` or `content filter`."""
    if isinstance(error, errors.ServerError | errors.EmptyReply) and FILTER.search(error.message):
        return "content filter"
    if isinstance(error, errors.EmptyReply) and "the budget was used up" in error.message:
        return "budget used up"
    if not isinstance(error, errors.ServerError):
        return _WORDS.get(type(error), "engine error")
    if error.status is None:
        return "broken reply" if error.passing else "no usable reply"
    if error.status == 429:
        return "rate limit"
    return "server error" if error.status >= 500 else "request refused"


def in_words(causes: Counter[str]) -> str:
    """Return counts as `rate limit 3, content filter 2`, most frequent first."""
    return ", ".join(f"{cause} {count:,}" for cause, count in causes.most_common())


def is_of_item(error: errors.RedraftError) -> bool:
    """Return whether an error concerns only one item, not the whole job."""
    own = (errors.ContextError, errors.EmptyReply, errors.RecordError)
    return is_refusal(error) or isinstance(error, own)


def is_refusal(error: errors.RedraftError) -> bool:
    """Return whether a server refused a request, for example for its content or a wrong model name."""
    if not isinstance(error, errors.ServerError):
        return False
    return error.status in _REFUSED or (error.status == 403 and is_filtered(error))


def is_filtered(error: errors.RedraftError) -> bool:
    """Return whether a content filter refused a request."""
    return isinstance(error, errors.ServerError) and bool(FILTER.search(error.message))


def is_doubtful(error: errors.RedraftError) -> bool:
    """Return whether it is unclear if an error concerns one item or the whole job."""
    if isinstance(error, errors.ServerError):
        return error.status not in _REFUSED | _HOPELESS
    return isinstance(error, (errors.EngineTimeout, errors.CheckError))
