"""Read the licences of records and models, and combine the licences of a result's sources.

Licences are copied unchanged. Only names that forbid commercial use are recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

UNKNOWN = "unknown"  # the licence of sources without one, and the language of unrecognised texts
OTHER = "other"  # the hub's name for a licence that is not in its list, and for several licences together

_LONGEST = 80  # most characters of a licence's name: some records contain the full text instead
_MOST_NAMES = 16  # most licences of a record
_NONCOMMERCIAL = re.compile(r"\bNC\b|non-?\s?commercial", re.IGNORECASE)
_SEVERAL = re.compile(r",|\bAND\b")
OTHERS = ("other licences", "other licences (non-commercial)")  # names for licences beyond `MOST_ORIGINS`
MOST_ORIGINS = 256  # licences or data sets to count by name: a hostile file must not fill memory
_SHOWN = 4  # sources of one licence to name


class Source(NamedTuple):
    """A source of a model or of a file of records."""

    kind: str  # base, adapter, delta, model or data
    name: str
    licence: str = UNKNOWN  # its licence, or several, with commas or AND between them


def licence_in(origin: Any) -> str:
    """Return the licences in a record's `origin` field as one text, or `UNKNOWN`."""
    value = origin.get("licence") if isinstance(origin, Mapping) else None
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    are_names = all(len(name.strip()) <= _LONGEST for name in text.split(","))
    return text.strip()[: _LONGEST * _MOST_NAMES if are_names else _LONGEST] or UNKNOWN


def origin_of(meta: Mapping[str, Any], file: str) -> tuple[str, str]:
    """Return the data set and licence in a record's `meta`. `file` takes the place of a missing data set."""
    origin = meta.get("origin")
    named = origin.get("dataset") if isinstance(origin, Mapping) else None
    return (named[:_LONGEST] if isinstance(named, str) and named.strip() else file), licence_in(origin)


def rest_of(licence: str) -> str:
    """Return a collective name for a licence, used if there are too many licences to count by name."""
    return OTHERS[forbids_commerce(licence)]


def forbids_commerce(licence: str) -> bool:
    """Return whether a licence's name forbids commercial use."""
    return _NONCOMMERCIAL.search(licence) is not None


def ids_of(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """Map each licence's id on the hub, such as `cc-by-nc-4.0`, to the sources with this licence."""
    found: dict[str, dict[tuple[str, str], Source]] = {}  # each source once, however its licence is spelled
    for source in sources:
        for name in _SEVERAL.split(source.licence):
            if one := re.sub(r"[^a-z0-9.+]+", "-", name.casefold()).strip("-"):
                found.setdefault(one, {}).setdefault(source[:2], source)
    return {name: list(of.values()) for name, of in sorted(found.items())}


def clash(sources: Sequence[Source]) -> bool:
    """Return whether known licences differ or any licence forbids commercial use."""
    names = ids_of(sources).keys() - {UNKNOWN}
    return len(names) > 1 or any(map(forbids_commerce, names))


def remark(sources: Sequence[Source]) -> str:
    """Return a remark if licences differ, are partly unknown or forbid commercial use, otherwise ""."""
    found = ids_of(sources)
    listed = "; ".join(f"{name} ({_named(of)})" for name, of in found.items())
    closed = [name for name in found if forbids_commerce(name)]
    ban = f"Commercial use is forbidden by {', '.join(closed)}" if closed else ""
    if len(found) < 2:
        return f"the licence is {listed}. {ban}." if ban else ""
    known = "Before you publish the result, state the unknown licence: redraft data import … --licence TEXT"
    lack = known if UNKNOWN in found else ""
    more = "".join(f" {text}." for text in (ban, lack) if text)
    differ = len(found.keys() - {UNKNOWN}) > 1
    what = "the sources have different licences" if differ else "a source's licence is unknown"
    return f"{what}: {listed}. So the result's licence is {OTHER!r}.{more}"


def _named(sources: Sequence[Source]) -> str:
    names = [f"{each.kind} {each.name}" for each in sources[:_SHOWN]]
    return ", ".join(names) + (f" and {len(sources) - _SHOWN} more" if len(sources) > _SHOWN else "")
