"""Return log-probabilities of an answer's tokens, in OpenAI's formats.

Chains do not contain log-probabilities, so `Noting` wraps the model's engine to request and record them.
A revised answer has no log-probabilities, because the answer comes from several calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from redraft.chain import whole
from redraft.engines.base import Delta, Engine, Replies
from redraft.engines.wrapped import Ask, WrappedEngine
from redraft.errors import EngineError
from redraft.revision.options import RevisionOptions
from redraft.serve.errors import invalid

MOST_LIKELY = 20  # most alternatives to a token that a request may ask for, as in OpenAI's API


class Token(NamedTuple):
    """A token's text, its log-probability (natural logarithm), and the likeliest tokens at that position."""

    text: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()


class Noting(WrappedEngine):
    """An engine that records the log-probabilities of each answer. Answers must be made one after another."""

    def __init__(self, engine: Engine, most: int = 0) -> None:
        super().__init__(engine)
        self._most = most
        self._answers: list[list[Token]] = []
        self._taken: dict[int, tuple[int, int]] = {}

    def take(self, index: int) -> tuple[int, list[Token]]:
        """Return the length of an answer's text at the last `take`, and the tokens since then."""
        taken, before = self._taken.get(index, (0, 0))
        tokens = self._answers[index][taken:] if index < len(self._answers) else []  # else it has not begun
        self._taken[index] = taken + len(tokens), before + sum(len(token.text) for token in tokens)
        return before, tokens

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        tokens: list[Token] = []
        sampling = replace(request["sampling"], logprobs=True, top_logprobs=self._most)
        self._answers.append(tokens)
        try:
            async with aclosing(ask(sampling)) as deltas:
                async for delta in deltas:
                    tokens += await self._of(delta)
                    yield delta
        except EngineError:
            self._answers.pop()  # the answer broke off, and may be written again
            raise

    async def _of(self, delta: Delta) -> list[Token]:
        texts = [delta.text, *[""] * (len(delta.logprobs) - 1)]
        if len(delta.tokens) == len(delta.logprobs) > 1:
            texts = [await self.decode([token]) for token in delta.tokens]
        others = []
        for places in delta.likeliest:
            named = []
            for token, number in places[: self._most]:  # a server may send more than were asked for
                text = token if isinstance(token, str) else await self.decode([token])
                named.append((whole(text), number))
            others.append(tuple(named))
        others = others or [()] * len(texts)
        return [
            Token(whole(text), number, likeliest)
            for text, number, likeliest in zip(texts, delta.logprobs, others, strict=False)
        ]


def only_answer(options: RevisionOptions) -> bool:
    """Return whether the first answer is certain to be the final answer."""
    return options.max_revisions == 0 and options.most_drafts == 1


def noting(options: RevisionOptions, model: str, most: int = 0) -> tuple[RevisionOptions, Noting]:
    """Wrap the engine of `options`, to record log-probabilities. Return the new options and the new engine.

    `most` is the number of likeliest tokens to record at each position.
    """
    engine = options.model
    assert not isinstance(engine, str)  # noqa: S101  (engines of a server are open)
    if not only_answer(options) or (engine.info.native and options.mode in ("auto", "native")):
        message = f"the model {model!r:.100} revises or compares answers, so it cannot return logprobs."
        message += ' Leave them out, or send "revision": {"max": 0, "drafts": 1, "mode": "prompted"}.'
        raise invalid(message, "logprobs", code="unsupported")
    if not engine.info.logprobs:
        message = f"the engine of {model!r:.100} cannot return logprobs. Leave them out."
        raise invalid(message, "logprobs", code="unsupported")
    found = Noting(engine, most)
    return options.model_copy(update={"model": found}), found


def of_chat(tokens: Sequence[Token]) -> dict[str, Any]:
    """Return tokens as the `logprobs` of one choice in `/v1/chat/completions`."""
    content = [
        {**_named(text, number), "top_logprobs": [_named(*each) for each in likeliest]}
        for text, number, likeliest in tokens
    ]
    return {"content": content, "refusal": None}


def _named(text: str, number: float) -> dict[str, Any]:
    return {"token": text, "logprob": number, "bytes": list(text.encode())}


def of_completion(before: int, tokens: Sequence[Token]) -> dict[str, Any]:
    """Return `logprobs` of `/v1/completions`. `before` is the length of the text before the tokens."""
    tops = [dict(token.likeliest) for token in tokens]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": [*accumulate((len(token.text) for token in tokens), initial=before)][:-1],
    }
