"""Derive checks from a prompt, by rules for common phrases: "at most 50 words" yields `words<=50`.

An unsure rule yields nothing, because a wrong check spoils answers and a missing check does no harm. To
add a rule, put a function into `RULES`. Each rule is called with each `Sentence`.

To bound the time, only the beginning and end of a long text are read, and long sentences are skipped.
"""

from __future__ import annotations

import re

from redraft.chain import whole
from redraft.checks.derive.amounts import NUMBER, UNNUMBERED, lengths, lists, shapes
from redraft.checks.derive.sentences import CODE, Rule, Text
from redraft.checks.derive.wording import choices, in_json, language, wordings

READ = 20_000
"""The most characters to read: half from the beginning and half from the end of a longer prompt."""
MOST_CHECKS = 50
NOTHING = "no demand was found in this prompt. redraft reads only English demands."

_BOUND = (
    r"(?:at (?:least|most)|a (?:min|max)imum of|(?:no |not )?(?:more|less|fewer|longer|shorter) than|under"
    rf"|below|over) {NUMBER}"
)
_UNIT = r" (words|sentences|characters|lines|paragraphs|bullets|bullet points)\b"
_TWO = re.compile(
    rf"(?i)\b({_BOUND})(?:{_UNIT})?(,? (?:but|and|yet) {_BOUND})(?(2)(?= ?(?:[.,;:!?)]|\Z))|{_UNIT})"
)
"""Matches two bounds that share a unit: "at least 30 words but fewer than 50"."""


def checks_in(prompt: str) -> tuple[str, ...]:
    """Return the checks that a prompt demands in plain words, as texts (`words<=50`), without repeats.

    Contradictory checks are left out. At most `MOST_CHECKS` checks are returned.
    """
    if len(prompt) > READ:
        prompt = f"{prompt[: READ // 2]}\n\n{prompt[-READ // 2 :]}"
    prompt = re.sub(r"(?<!\w) ?(?:≤|<=) ?(?=\d)", " at most ", prompt)
    prompt = _TWO.sub(lambda it: f"{it[1]} {it[2] or it[4]}{it[3]} {it[4] or it[2]}", prompt)
    text = Text.of(whole(prompt))
    if CODE.search(text.masked):
        return ()
    found = list(dict.fromkeys(check for part in text.sentences for rule in RULES for check in rule(part)))
    return tuple(consistent(found)[:MOST_CHECKS])


RULES: tuple[Rule, ...] = (lengths, lists, shapes, wordings, choices, language, in_json)
"""The rules, each called with each sentence. A rule yields checks; an unsure rule yields nothing."""

_SOME = re.compile(r"(bullets|items|headings)>=1").fullmatch
_COUNT = re.compile(r"([a-z]+)(<=|>=|==|=)(\d+)(?:\.\.(\d+))?")
_ONE_ONLY = ("language:", "uppercase", "lowercase", "json", "keys:", "starts:", "ends:", "matches:")


def consistent(found: list[str]) -> list[str]:
    """Drop needless and contradictory checks. If `contains:A` and `lacks:A` are found, keep `lacks:A`."""
    counted = {_listed(match[1]) for match in map(_COUNT.fullmatch, found) if match and not _SOME(match[0])}
    found = [each for each in found if not (some := _SOME(each)) or _listed(some[1]) not in counted]
    of_unit: dict[str, list[str]] = {}
    for check in found:
        if match := _COUNT.fullmatch(check):
            of_unit.setdefault(match[1], []).append(check)
    unsure = {check for checks in of_unit.values() if not _meet(checks) for check in checks}
    unmarked = any(check.startswith(("json", "keys:", UNNUMBERED)) for check in found)
    if "bullets" in of_unit or unmarked:  # a list may have neither bullets nor numbers
        unsure |= set(of_unit.get("items", []))
    for kind in _ONE_ONLY:
        same = [check for check in found if check.startswith(kind)]
        unsure |= set(same) if len(same) > 1 else set()
    lacking = {check.removeprefix("lacks:").lower() for check in found if check.startswith("lacks:")}
    has = [check for check in found if check.startswith("contains:")]
    unsure |= {check for check in has if check.removeprefix("contains:").lower() in lacking}
    return [check for check in found if check not in unsure]


def _listed(unit: str) -> str:
    return "items" if unit == "bullets" else unit


def _meet(checks: list[str]) -> bool:
    lows, highs = [], []
    for check in checks:
        _, op, n, m = _COUNT.fullmatch(check).groups()  # type: ignore[union-attr]
        if op != "<=":
            lows.append(int(n))
        if op != ">=":
            highs.append(int(m or n))
    return len({*lows}) <= 1 and len({*highs}) <= 1 and (not lows or not highs or lows[0] <= highs[0])
