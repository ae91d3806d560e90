"""Under which licence a record is, as its origin says it. That is carried and counted here, not judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"
"""The licence of what does not say one, and the language of what cannot be told."""

_LONGEST = 80  # characters of a licence's name: that of a whole text is no name
_NONCOMMERCIAL = re.compile(r"\bNC\b|non-?\s?commercial", re.IGNORECASE)


def licence_in(origin: Any) -> str:
    """The licence that an origin names, as a text: several are joined, and none is `UNKNOWN`."""
    said = origin.get("licence") if isinstance(origin, Mapping) else None
    text = ", ".join(map(str, said)) if isinstance(said, list) else str(said or "")
    return text.strip()[:_LONGEST] or UNKNOWN


def forbids_commerce(licence: str) -> bool:
    """Whether a licence is not for commercial use, by its name."""
    return _NONCOMMERCIAL.search(licence) is not None
