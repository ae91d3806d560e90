"""Limits over a whole chain.

A reached budget ends the chain with its best answer so far; it never raises. Tokens and money count all
attempts and all models together.
"""

from __future__ import annotations

from dataclasses import dataclass

from redraft.chain import Usage
from redraft.engines.base import Price, is_number
from redraft.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """The most that one chain may use. None means no limit.

    Attributes:
        tokens: Generated tokens, over all answers and feedback. Only a judge's call may exceed it.
        seconds: Wall-clock time. Work in the engine is cancelled at the limit.
        usd: Money. Every model that is asked needs a price. No call starts once it is spent, and a call is
            limited to the tokens that the rest pays for, so only a prompt's price or a judge's call may
            exceed it.
    """

    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "seconds", "usd"):
            value = getattr(self, name)
            whole = name == "tokens"
            if value is not None and not (is_number(value, whole=whole) and value > 0):
                raise UsageError(
                    f"the budget of {name} is {value!r:.60}.",
                    hint=f"Give a {'whole ' * whole}number above zero, or none.",
                )

    def tokens_left(self, usage: Usage, price: Price | None) -> int | None:
        """Return how many more tokens a model of this price may generate; None for no limit."""
        left = [] if self.tokens is None else [self.tokens - usage.completion_tokens]
        if self.usd is not None and price is not None and price.completion > 0:
            left.append(int(round(self.usd - (usage.cost_usd or 0), 9) * 1e6 / price.completion))
        return max(min(left), 0) if left else None

    def spent(self, usage: Usage, price: Price | None, seconds: float) -> bool:
        """Return whether a limit is reached; `price` is that of the model to be asked next."""
        out_of_money = self.usd is not None and round(usage.cost_usd or 0, 9) >= self.usd
        out_of_time = self.seconds is not None and seconds >= self.seconds
        return out_of_money or out_of_time or self.tokens_left(usage, price) == 0
