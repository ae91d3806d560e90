"""Log-probabilities of the tokens of an answer, in OpenAI's shapes.

An engine around the model's own asks for them and notes them, so that chains need not carry them. An answer
that is revised has none: it is several calls. Alternatives (`top_logprobs`) are not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from redraft.chain import whole
from redraft.engines.base import Delta, Engine
from redraft.engines.wrapped import Ask, Replies, WrappedEngine
from redraft.errors import EngineError
from redraft.revision.options import Options
from redraft.serve.errors import invalid


class Token(NamedTuple):
    """A token's text, and the natural logarithm of its probability."""

    text: str
    logprob: float


class Noting(WrappedEngine):
    """An engine that notes the log-probabilities of each answer. Answers are written one after the other."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._answers: list[list[Token]] = []
        self._taken: dict[int, tuple[int, int]] = {}

    def take(self, index: int) -> tuple[int, list[Token]]:
        """Return the new tokens of an answer, and the length of the text of those that were taken before."""
        taken, before = self._taken.get(index, (0, 0))
        tokens = self._answers[index][taken:] if index < len(self._answers) else []  # it may never have begun
        self._taken[index] = taken + len(tokens), before + sum(len(token.text) for token in tokens)
        return before, tokens

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        tokens: list[Token] = []
        self._answers.append(tokens)
        try:
            async with aclosing(ask(replace(request["sampling"], logprobs=True))) as deltas:
                async for delta in deltas:
                    tokens += await self._of(delta)
                    yield delta
        except EngineError:
            self._answers.pop()  # it broke off, and may be written again
            raise

    async def _of(self, delta: Delta) -> list[Token]:
        """Return the tokens of a delta. Without ids, the first one has the text of them all."""
        texts = [delta.text, *[""] * (len(delta.logprobs) - 1)]
        if len(delta.tokens) == len(delta.logprobs) > 1:
            texts = [await self.decode([token]) for token in delta.tokens]
        return [Token(whole(text), number) for text, number in zip(texts, delta.logprobs, strict=False)]


def noting(options: Options, model: str) -> tuple[Options, Noting]:
    """Return options whose engine notes log-probabilities, and that engine.

    Raises:
        Refusal: The answer is revised, or the engine has none.
    """
    engine = options["model"]
    assert not isinstance(engine, str)  # noqa: S101  (engines of a server are open)
    if options.get("max_revisions") != 0 or options.get("drafts", 1) != 1 or engine.info.native:
        message = f"logprobs are those of one answer, and {model!r:.100} revises here. Set revision.max to 0."
        raise invalid(message, "logprobs", code="unsupported")
    if not engine.info.logprobs:
        message = f"the engine of {model!r:.100} has no logprobs. Leave them out."
        raise invalid(message, "logprobs", code="unsupported")
    found = Noting(engine)
    return {**options, "model": found}, found


def of_chat(tokens: Sequence[Token]) -> dict[str, Any]:
    """Return tokens as a choice of a chat has them."""
    content = [
        {"token": text, "logprob": number, "bytes": list(text.encode()), "top_logprobs": []}
        for text, number in tokens
    ]
    return {"content": content, "refusal": None}


def of_completion(before: int, tokens: Sequence[Token]) -> dict[str, Any]:
    """Return tokens as a choice of a completion has them. `before` is the length of the text before them."""
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": None,
        "text_offset": list(accumulate((len(token.text) for token in tokens[:-1]), initial=before))
        if tokens
        else [],
    }
