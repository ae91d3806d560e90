"""Limits over a whole chain, and what tokens cost.

A reached budget ends the chain with its best answer so far; it never raises. Tokens and money are limits on
all attempts together, because that is what is paid for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from redraft.chain import Usage
from redraft.errors import UsageError


def _is_number(value: object, *, whole: bool = False) -> bool:
    """Whether a value is a finite number. True and False are none."""
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < math.inf


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost, in USD per million.

    Attributes:
        prompt: Tokens of prompts.
        completion: Generated tokens.
        cached: Tokens of prompts that the server had cached; None if they cost as much as others.
    """

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            required = name != "cached"
            if (value is None and required) or (value is not None and not (_is_number(value) and value >= 0)):
                raise UsageError(
                    f"the price of {name} tokens is {value!r:.60}.",
                    hint="Give USD per million tokens, 0 or more.",
                )

    def cost(self, usage: Usage) -> float:
        """The cost of a usage, in USD."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = max(usage.prompt_tokens - usage.cached_tokens, 0)
        million = (
            fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion
        )
        return million / 1e6


@dataclass(frozen=True)
class Budget:
    """The most that one chain may use. None means no limit.

    Attributes:
        tokens: Generated tokens, over all answers and feedback. Never exceeded, but by a judge's call.
        seconds: Wall-clock time. Work in the engine is cancelled when it is over.
        usd: Money. Needs a `Price`. A call is not begun when it is spent, and a call's length is limited to
            what is left, so that at most the price of one prompt goes over.
    """

    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "seconds", "usd"):
            value = getattr(self, name)
            whole = name == "tokens"
            if value is not None and not (_is_number(value, whole=whole) and value > 0):
                raise UsageError(
                    f"the budget of {name} is {value!r:.60}.",
                    hint=f"Give a {'whole ' * whole}number above zero, or none.",
                )

    def tokens_left(self, usage: Usage, price: Price | None) -> int | None:
        """How many more tokens may be generated after a usage; None for no limit."""
        left = [] if self.tokens is None else [self.tokens - usage.completion_tokens]
        if self.usd is not None and price is not None and price.completion > 0:
            left.append(int((self.usd - price.cost(usage)) * 1e6 / price.completion))
        return max(min(left), 0) if left else None

    def spent(self, usage: Usage, price: Price | None, seconds: float) -> bool:
        """Whether any limit is reached."""
        out_of_money = self.usd is not None and price is not None and price.cost(usage) >= self.usd
        out_of_time = self.seconds is not None and seconds >= self.seconds
        return out_of_money or out_of_time or self.tokens_left(usage, price) == 0
