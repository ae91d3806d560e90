"""How many at once, of what is started on a cluster: `8`, or `2-8`."""

from __future__ import annotations

import re
from typing import NamedTuple

from redraft.errors import UsageError

_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


class Bounds(NamedTuple):
    """How many there are at least, and at most."""

    least: int
    most: int

    @classmethod
    def read(cls, text: str, name: str, *, lowest: int = 1) -> Bounds:
        """Read the value of a flag. Raises `UsageError` if `least` is under `lowest`, or `most` under 1."""
        found = _RANGE.fullmatch(text)
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not (lowest <= least <= most and most):
            hint = f"Write a number, or a range: 8, or {lowest}-8."
            raise UsageError(f"{name} is {text!r:.40}.", hint=hint)
        return cls(least, most)
