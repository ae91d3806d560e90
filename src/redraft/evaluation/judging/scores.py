"""Read scores and verdicts from the text of a review. A score is never made up.

Judges are asked for two numbers on the first line, and sometimes write them at the end. Their text also
quotes the answers, with numbers, tuples and perhaps scores in them, so a fallback needs a line about scores.
"""

from __future__ import annotations

from typing import Literal

import regex

LOWEST, HIGHEST = 1.0, 10.0
"""The scale of SelFee's and FastChat's judges."""

Winner = Literal["1", "2", "tie"]  # a verdict: the answer that was shown first, the second, or neither

# Spaces are bounded and never given back: a hostile text must not cost quadratic time.
_GAP, _MARKS, _BOLD = r"\s{0,8}+", r"[\s\ufeff*_`#>]{0,16}+", r"[*_`]{0,3}+"
_VALUE = rf"{_BOLD}(-?\d{{1,4}}(?:\.\d{{1,4}})?){_BOLD}"
_OUT_OF = rf"\s?(?:/|out\sof)\s?{_BOLD}10(?!\.?\d){_BOLD}"
_NUMBER = rf"{_VALUE}(?:{_OUT_OF})?+"
_LABEL = rf"(?:final\s|overall\s)?(?:score|rating)s?{_MARKS}:?{_MARKS}"
_BETWEEN = rf"(?:{_GAP}[,;]{_GAP}|\s{{1,8}}+(?:and\s{{1,8}}+)?+)"
_END = rf"{_GAP}[)\]]?\.?{_MARKS}"
_FIRST_LINE = regex.compile(rf"(?i){_MARKS}(?:{_LABEL})?+[(\[]?{_GAP}{_NUMBER}{_BETWEEN}{_NUMBER}{_END}")
_ALONE = regex.compile(rf"(?i){_MARKS}(?:{_LABEL}[(\[]?{_NUMBER}|{_VALUE}{_OUT_OF}){_END}")
_NAMED = regex.compile(
    rf"(?im)\bAssistant\s([12])(?:'s\sscore)?{_MARKS}:[ \t*_]{{0,8}}+{_NUMBER}"
    rf"(?=[ \t*_]{{0,8}}+(?:$|\(|\.[ \t]{{0,8}}+$|[,;.]?{_GAP}(?:and\s)?Assistant))"
)
_TUPLE = regex.compile(rf"\({_GAP}{_NUMBER}{_GAP},{_GAP}{_NUMBER}{_GAP}\)")
# Before a tuple of scores stands nothing, or words about scores that end in a colon, "=", "is" or "are".
_SAYS_SCORES = regex.compile(
    r"(?i)(?:.*?(?:\b(?:scores?|tuple|ratings?)\b|^\W*output\b).*(?:[:=]|\b(?:is|are)))?[\s*_`]*"
)
_BRACKETS = regex.compile(rf"\[\[{_GAP}{_NUMBER}(?:{_GAP},{_GAP}{_NUMBER})?{_GAP}\]\]")
_BLANK = " \t\r\n\ufeff"
_VERDICT = regex.compile(rf"\[\[{_GAP}([ABC]){_GAP}\]\]")
WINNERS: dict[str, Winner] = {"A": "1", "B": "2", "C": "tie"}


class Unreadable(ValueError):
    """A review has no score that can be used. The message is the reason."""


def checked(scores: tuple[float, ...]) -> tuple[float, ...]:
    """Return scores that are on the scale, or raise `Unreadable`."""
    if not all(LOWEST <= score <= HIGHEST for score in scores):
        shown = " and ".join(f"{score:g}" for score in scores)
        raise Unreadable(f"scores outside {LOWEST:g} to {HIGHEST:g}: {shown}")
    return scores


def scores_in(text: str) -> tuple[float, ...]:
    """Return the scores in a review's text: two, or one for a grade.

    Read are, in this order: a first line of two numbers, which all that follows may quote others; MT-bench's
    `[[8]]` and `[[8, 9]]` on the last line that has some; the last `Assistant 1: 8` with the last
    `Assistant 2: 9`; the last tuple that is a line of its own or ends one such as `Scores: (8, 9)`; a first
    or last line that is one score and says so, as `Score: 8` and `8 out of 10` do.

    Raises:
        Unreadable: There are none, they are not on the scale, or a line has several, as `[[8]] or [[9]]`.
    """
    match = _FIRST_LINE.fullmatch(text.strip(_BLANK).partition("\n")[0])
    found = list(match.groups()) if match else [score for score in _on_last_line(_BRACKETS, text) if score]
    found = found or _named(text) or _last_tuple(text) or _alone(text)
    if found:
        return checked(tuple(map(float, found)))
    raise Unreadable("no scores in the text" if text.strip() else "an empty text")


def winner_in(text: str) -> Winner:
    """Return MT-bench's verdict: the `[[A]]`, `[[B]]` or `[[C]]` (a tie) on the last line that has one.

    FastChat takes A wherever `[[A]]` is, even where a judge repeats what it was asked for. Here a text
    without a verdict, or with several on the line, as `[[A]] or [[B]]`, is Unreadable.
    """
    if found := _on_last_line(_VERDICT, text):
        return WINNERS[found[0]]
    raise Unreadable("no verdict in the text" if text.strip() else "an empty text")


def _on_last_line(pattern: regex.Pattern[str], text: str) -> tuple[str, ...]:
    """Return the groups of the last match, which must be alone on its line; none without a match."""
    found = list(pattern.finditer(text))
    if not found:
        return ()
    line = text.rfind("\n", 0, found[-1].start())
    shown = {match.groups(): match[0] for match in found if match.start() > line}
    if len(shown) > 1:
        raise Unreadable(f"{' and '.join(shown.values())} on one line")
    return found[-1].groups("")


def _alone(text: str) -> list[str]:
    text = text.strip(_BLANK)
    matches = map(_ALONE.fullmatch, (text.partition("\n")[0], text.rpartition("\n")[2]))
    return next(([match[1] or match[2]] for match in matches if match), [])


def _named(text: str) -> list[str]:
    scores = dict(_NAMED.findall(text))  # the last of each
    return [scores["1"], scores["2"]] if len(scores) == 2 else []


def _last_tuple(text: str) -> list[str]:
    """Return the last tuple that is a line of its own, or ends a line that calls it the scores.

    A pair in prose is none: the answers under review have some, as `f(1, 2) = 3` and the point (10, 4).
    """
    for line in reversed(text.splitlines()):
        found = list(_TUPLE.finditer(line))
        if not found or not _SAYS_SCORES.fullmatch(line[: found[0].start()]):
            continue
        if len({match.groups() for match in found}) > 1:
            raise Unreadable(f"{' and '.join(match[0] for match in found)} on one line")
        if not line[found[-1].end() :].strip(" \t*_`."):
            return list(found[-1].groups())
    return []
