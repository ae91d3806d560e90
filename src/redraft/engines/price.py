"""What the tokens of a model cost."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redraft.chain import Usage
from redraft.errors import UsageError


@dataclass(frozen=True)
class Price:
    """The price of a model's tokens, in USD per million. Without `cached`, cached tokens cost the same."""

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0) and (value is not None or name != "cached"):
                raise UsageError(
                    f"the price of {name} tokens is {value!r:.60}.",
                    hint="Give USD per million tokens, 0 or more.",
                )

    def cost(self, usage: Usage) -> float:
        """Return the cost of a usage in USD."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = max(usage.prompt_tokens - usage.cached_tokens, 0)
        millions = fresh * self.prompt + usage.cached_tokens * cached
        return (millions + usage.completion_tokens * self.completion) / 1e6


def price_of(value: Any) -> Price | None:
    """Return the price in a `Price`, a mapping of its fields, or a text `PROMPT,COMPLETION[,CACHED]`.

    Raises:
        UsageError: It is none.
    """
    if value is None or isinstance(value, Price):
        return value
    try:
        if isinstance(value, Mapping):
            return Price(**value)
        numbers = [float(part) for part in value.split(",")] if isinstance(value, str) else []
        if len(numbers) in (2, 3) and all(0 <= number < math.inf for number in numbers):
            return Price(*numbers)
    except (TypeError, ValueError):
        pass
    hint = "Write USD per million tokens as PROMPT,COMPLETION or PROMPT,COMPLETION,CACHED: --price 0.5,1.5"
    raise UsageError(f"the price {value!r:.60} cannot be read.", hint=hint)


def is_number(value: object, *, whole: bool = False) -> bool:
    """Return whether a value is a finite number. A bool is not."""
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
