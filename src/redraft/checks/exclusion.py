"""Find checks that no answer can pass: contradictory checks, and demands for more text than is allowed.

Only provable conflicts are reported, because the user gets an error instead of an answer. Doubtful pairs are
allowed, such as `lacks:3` and `contains:3,`: "3,5" passes both checks, because 3,5 is one number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

from redraft.chain import Prompt
from redraft.checks.base import Check, schema_of
from redraft.checks.groups import AllOf
from redraft.checks.ifeval import Constraint
from redraft.checks.output import OutputCheck
from redraft.checks.structure import Json, JsonSchema, Keys
from redraft.checks.text import WRITTEN, Case, Contains, Count, Ends, Lacks, Starts, plain
from redraft.engines.steering.form import Form
from redraft.engines.steering.phrase import pattern_for
from redraft.jobs.counting import counted

TOKEN_WORDS = 3
"""The most words per token, on average. A Chinese token is about two characters, and so about two words."""

MEMBER = 3  # the fewest tokens of a member of a JSON object: its name, its value, and marks between them

_OF_LINES = dict.fromkeys(("items", "headings", "paragraphs"), "lines")
_HOLDS = {"sentences": "words", "bullets": "items", **_OF_LINES, "lines": "characters", "words": "characters"}
"""Maps a unit to a smaller unit: every sentence contains a word."""

CHARACTER_WORDS = 2
"""The most words per character, on average. In Thai, กำ is one character, but two words."""

_BEGINS_JSON = re.compile(r'^["{\[-]|^(\d[-+.\dE]*|true|false|null)$', re.IGNORECASE)
_ENDS_JSON = re.compile(r'["}\]]$|^([-+.\dE]*\d|true|false|null)$', re.IGNORECASE)

_ANY = Prompt(instruction="?")

Bounds = tuple[str, int, int | None]  # the unit that is counted, the lower and the upper bound


def fault_of(checks: Iterable[Check], max_tokens: int | None = None) -> tuple[str, str] | None:
    """Return the reason why no answer can pass all checks, and a hint; None if some answer may pass.

    `max_tokens` is the most tokens that an answer may have; None if unknown.
    """
    checks = [*checks]
    parts = [part for check in checks for part in _parts(check)]
    whole = any(isinstance(check, Constraint) for check in checks)  # the whole answer is judged
    alone = [one for one in checks if not whole and isinstance(one, Json | Keys | JsonSchema | OutputCheck)]
    for one, other in combinations(parts, 2):
        unlike = [_unlike(second) for first, second in ((one, other), (other, one)) if first in alone]
        if why := _clash(one, other) or _clash(other, one) or "".join(unlike):
            answer = "answer with letters" if isinstance(one, Case) else "answer"
            message = f"no {answer} passes both {one.name:.200} and {other.name:.200}: {why}."
            return message, "Change or remove one of the two checks."
    for part in parts:
        what, low, high = _bounds(part) or ("", 0, None)
        if high == 0 and what not in WRITTEN:
            return f"only an empty answer passes {part.name}.", f"Remove this check, or allow more {what}."
        least = low / TOKEN_WORDS if what in ("words", "sentences") else 0
        if max_tokens is not None and max(least, MEMBER * len(names := _names(part))) > max_tokens:
            message = f"no answer of at most {counted(max_tokens, 'token')} passes {part.name:.200}."
            return message, f"Allow more tokens: {2 * low or 16 * len(names)}."
    return None


def _parts(check: Check) -> Iterator[Check]:
    if isinstance(check, AllOf):
        for part in check.parts:
            yield from _parts(part)
    else:
        yield check


def _clash(one: Check, other: Check) -> str:
    first, second = _bounds(one), _bounds(other)
    if first and second and (why := _outside(first, second)):
        return why
    if isinstance(one, Case) and isinstance(other, Case) and one != other:
        return "one forbids lowercase letters, the other forbids uppercase letters"
    for kind, edge in ((Starts, 0), (Ends, -1)):
        if not (isinstance(one, kind) and isinstance(other, kind)):
            continue
        emphasis = {one.text.strip()[edge], other.text.strip()[edge]} & {"*", "_"}
        if not (emphasis or one.check(other.text, _ANY).passed or other.check(one.text, _ANY).passed):
            return f"none {kind.__name__.lower()} with both {one.text!r} and {other.text!r}"
    if isinstance(one, Lacks) and _has(other, one):
        return f"one demands {one.text!r}, the other forbids it"
    if isinstance(one, Lacks | Constraint):
        for word in (one.form or Form()).lacks:
            if name := next(filter(pattern_for(word.strip()).search, _names(other)), None):
                return f"one demands the key {name!r}, the other forbids {word!r}"
    return ""


def _names(check: Check) -> list[str]:
    """Return the keys that a check requires in every answer."""
    schema = schema_of(check) or {}
    names = schema.get("required") if schema.get("type") == "object" else None
    return [*map(str, names)] if isinstance(names, list) else []


def _unlike(check: Check) -> str:
    if isinstance(check, Starts | Ends) and not check.part:
        verb, edge = ("starts", _BEGINS_JSON) if isinstance(check, Starts) else ("ends", _ENDS_JSON)
        if not edge.search(plain(check.text).strip()):
            return f"only the JSON of an answer is judged, and no JSON {verb} with {check.text!r}"
    return ""


def _bounds(check: Check) -> Bounds | None:
    if isinstance(check, Contains | Starts | Ends):
        return "words", sum(any(map(str.isalnum, word)) for word in check.text.split()), None
    return (check.unit, check.low or 0, check.high) if isinstance(check, Count) else None


def _outside(first: Bounds, second: Bounds) -> str:
    (what, low, _), (other, _, high) = first, second
    held: str | None = what
    while held and held != other:
        held = _HOLDS.get(held)
    most = high and high * (CHARACTER_WORDS if other == "characters" != what else 1)
    if not held or most is None or low <= most:
        return ""
    each = "" if what == other else f", and every {what[:-1]} has its own {other}"
    least, top = counted(low, what[:-1]), counted(high or 0, other[:-1])
    return f"one demands at least {least}, the other at most {top}{each}"


def _has(check: Check, lacked: Lacks) -> bool:
    """Return whether `lacked` rejects every answer that contains the text demanded by `check`.

    Punctuation at either end of the text may touch other characters, as the comma of "3," does in "3,5".
    """
    if not isinstance(check, Contains | Starts | Ends) or check.part:
        return False
    text = check.text.strip()
    before, after = ("" if char.isalnum() else more for char, more in ((text[0], "5"), (text[-1], "5t")))
    around = [f"{first}{text}{last}" for first in ("", before) for last in ("", *after)]
    return not any(lacked.check(each, _ANY).passed for each in around)
