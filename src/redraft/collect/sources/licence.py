"""Read the licence in a record's origin. Licences are counted here, not judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"
"""The licence of records without one, and the language of unrecognised texts."""

_LONGEST = 80  # characters of a licence's name, in case it holds the full text
_NONCOMMERCIAL = re.compile(r"\bNC\b|non-?\s?commercial", re.IGNORECASE)


def licence_in(origin: Any) -> str:
    """Return the licence in an origin as text: several are joined; without one, `UNKNOWN`."""
    value = origin.get("licence") if isinstance(origin, Mapping) else None
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return text.strip()[:_LONGEST] or UNKNOWN


def forbids_commerce(licence: str) -> bool:
    """Whether a licence's name forbids commercial use."""
    return _NONCOMMERCIAL.search(licence) is not None
