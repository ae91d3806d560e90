"""Each failure has a cause in words."""

from __future__ import annotations

from collections import Counter

import pytest

from redraft.errors import ContextError, EmptyReply, EngineTimeout, RedraftError, ServerError
from redraft.jobs.causes import cause_of, in_words


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ServerError("a limits requests (429).", status=429), "rate limit"),
        (ServerError("a fails (503).", status=503), "server error"),
        (ServerError("a refuses the request (400): too odd.", status=400), "request refused"),
        (
            ServerError("a refuses (400): triggered the content management policy", status=400),
            "content filter",
        ),
        (EmptyReply("no answer: nothing, because of the server's content filter."), "content filter"),
        (EmptyReply("'m' gave no answer. It sent: nothing."), "empty reply"),
        (EmptyReply("there is no answer: the budget was used up."), "budget used up"),
        (ServerError("a broke off the stream.", passing=True), "broken reply"),
        (ServerError("a did not answer with JSON."), "no usable reply"),
        (ContextError(10, 5), "prompt too long"),
        (EngineTimeout("a sent nothing."), "timeout"),
        (RedraftError("?"), "engine error"),
    ],
)
def test_causes(error: RedraftError, cause: str) -> None:
    assert cause_of(error) == cause


def test_causes_are_counted_the_most_frequent_first() -> None:
    assert (
        in_words(Counter({"content filter": 2, "rate limit": 3000})) == "rate limit 3,000, content filter 2"
    )
