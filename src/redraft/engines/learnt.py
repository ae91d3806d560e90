"""What the default model has learnt, told from everything else before anything is drafted.

A prompt is an exercise if it has the values that a task needs, of a kind and size that the adapters work out
well, words that ask for the task, and no other word but some that change nothing ("please", "what is"). So a
third number, a decimal, a story, another language, or one unknown word leave a prompt to the base. The
adapters are asked in words of their training: they work as well however a person asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, NamedTuple


class Exercise(NamedTuple):
    """A prompt that the default model has learnt to answer: its task, its values, and how it is asked."""

    task: str
    values: Mapping[str, Any]
    texts: tuple[str, ...]


ASKED = {
    "add": ("What is {a} + {b}?", "What is {b} + {a}?", "Calculate {a} + {b}."),
    "subtract": ("What is {a} - {b}?", "Subtract {b} from {a}.", "Calculate {a} - {b}."),
    "dates": (
        "What date is {days} days after {day} {month}?",
        "Add {days} days to {day} {month}.",
        "{day} {month} plus {days} days is which date?",
    ),
}
"""Wordings of training for each task (`train.self.tasks`), to be tried in this order."""

LONGEST = 200
"""Characters of an exercise."""

_SIGNS = str.maketrans({"’": "'", "‘": "'", "−": "-", "–": "-", "—": "-", "＋": "+"})
_TOKEN = re.compile(r"\d[\d.,:/]*\d|\d|[^\W\d_]+(?:['-][^\W\d_]+)*|\S")
_OTHER = re.compile(  # how it is done, whether it is so, a day of the week, what was said before
    r"\bhow (?:to|do|can|could|would|should|did)\b(?! \d)|^(?:is|are|was|does|did)\b|\bof the week\b"
    r"|\bto (?:it|that|this)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"0|[1-9]\d{0,4}|[1-9]\d?,\d{3}")


def read(prompt: str) -> Exercise | None:
    """Return the exercise that a prompt is, or None if the base is to answer it."""
    text = " ".join(prompt.translate(_SIGNS).split())
    if len(prompt) > LONGEST or _OTHER.search(text):
        return None
    found = _two_numbers(text) or _days_after(text)
    return found and Exercise(*found, tuple(each.format(**found[1]) for each in ASKED[found[0]]))


_EQUATION = re.compile(r"(?<![\d.*+-])(\d+)((?:[+-]\d+)+)=(\d+)")
_COLUMN = re.compile(r"(\d+) (\d+): [^\[]*=(\d+)(?: borrow)? \[(\d+)\](?:, 1 \[(\d+)\])?")


def holds(work: str, asked: str) -> bool:
    """Return whether a criticism works out what was asked, each step right: sums, and column after column."""
    if sorted(re.findall(r"\d+", work)[:2]) != sorted(re.findall(r"\d+", asked)):
        return False
    for first, others, result in _EQUATION.findall(work):
        if int(first) + sum(map(int, re.findall(r"[+-]\d+", others))) != int(result):
            return False
    before = ""
    for (a, b, result, digits, carried), (x, y, *_) in pairwise([*_COLUMN.findall(work), ("0", "0")]):
        end = (int(x), int(y)) == (0, 0)
        if (int(a) // 10, int(b) // 10) != (int(x), int(y)) or digits != result[-1] + before:
            return False
        if carried != (f"1{digits}" if end and len(result) > 1 else ""):
            return False
        before = carried or digits
    if dated := of_dates(work):
        months = re.findall(r"has (\d+), (\d+)-(\d+)=", work)
        if not all(long == less and int(day) > int(long) for long, day, less in months):
            return False
        return dated[1] == dated[4] and int(dated[3]) <= int(dated[2]) and f"={dated[3]}, {dated[0]}" in work
    led = re.search(r", so (\d+), ", work)
    return bool(before and led and int(led[1]) == int(before))


def of_dates(work: str) -> re.Match[str] | None:
    """Return where the work on a date ends."""
    return re.search(r"(\w+) has (\d+), so (\d+) (\w+), ", work)


def _read_words(text: str) -> tuple[str, list[int]]:
    """Return words and signs in lower case, with spaces between and `#` for each number, and the numbers."""
    found = _TOKEN.findall(text.lower())
    numbers = [int(word.replace(",", "")) for word in found if _NUMBER.fullmatch(word)]
    return " ".join("#" if _NUMBER.fullmatch(word) else word for word in found), numbers


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANY = _words(
    "a an the of is are am be was what what's whats how much many does do did can could would will you i i'd "
    "i'm me my we us let's let please pls kindly tell give get gets gives find finding calculate calculating "
    "calc compute work out figure say show know see want need like to for if it it's that that's this these "
    "there and just only quickly quick hi hello hey thanks thank so now then answer result results value "
    "equal equals make makes come comes have help with from ok okay question math maths number numbers in "
    "? . , ! : ; = \" ' ( )"
)
"""Words that change nothing in any task."""


# Two numbers

_OF_NUMBERS = _words(
    "two both together up sum total difference solve evaluate left remains when remain adding"
)
_PAIR = r"(?: (?:these|those|the))?(?: two)?(?: numbers?)?(?: :)? # (?:(?:,|&|and|with|\+|plus) )?#"
_ADD = re.compile(
    rf"(?:add|adding|sum|combine|combining|addition)(?: up)?(?: together)?(?: of)?{_PAIR}"
    rf"|total(?: of)?{_PAIR}"
    r"|(?:add|adding) # to #|# (?:\+|plus|added to|more than) #"
    r"|# (?:and|&) # (?:, )?(?:added|summed|combined|together|in total|make|add up|what's the (?:sum|total))"
    r"|do # and # make|put # and # together|(?:increase|raise) # by #|# increased by #"
)
_TAKE = "subtract|subtracting|take|taking|deduct|deducting|remove|removing|taken|subtracted|deducted|removed"
_LESS = re.compile(
    r"# (?:-|minus|less|take away|take|subtract|decreased by|reduced by) #"
    r"|(?:reduce|decrease|lower) # by #"
    r"|start(?:ing)? (?:with|from|at) #(?: ,)?(?: and)? (?:take away|subtract|deduct|remove) #"
    rf"|from #(?: ,)? (?:{_TAKE})(?: away)? #"
    rf"|(?P<turned>(?:{_TAKE}) #(?: away| off)? from #|# (?:is )?(?:{_TAKE})(?: away)? from #|# less than #)"
    r"|(?P<apart>difference (?:between|of)(?: the)?(?: two)?(?: numbers?)? # (?:and|,|&) #"
    r"|how much (?:more|larger|bigger|greater|higher) is # than #"
    r"|by how much is # (?:more|larger|bigger|greater|higher) than #"
    r"|how much (?:more|larger|bigger|greater|higher) than # is #)"
)
_Found = tuple[str, dict[str, Any]] | None


_OF_YEARS = _words(
    "year years old age which they she he somebody someone person who passed went by long "
    "until later difference"
)
_BORN = r"(?:are they|am i|is (?:she|he|that)|was (?:she|he)|will (?:i|they) be)"
_LATER = re.compile(
    r"# years (?:after|from) #|# plus # years|add # years to #"
    r"|#(?: [.,])? (?:what|which) year (?:will it be|is it|will be) in # years"
)
_EARLIER = re.compile(
    r"(?P<first>(?:years )?(?:between|from) # (?:and|to|until|till) #|# to # (?:is )?(?:, )?how many years"
    r"|years (?:after|later than|since) # (?:is|was) #"
    rf"|born in #(?: [.,])?(?: how old {_BORN})?(?: be)? in #)"
    r"|years before # (?:is|was) #|in # of (?:someone|somebody|a person) born in #"
    r"|# minus # years"
    r"|(?P<turned># years before #|subtract # years from #)"
)


def _two_numbers(text: str) -> _Found:
    said, numbers = _read_words(text)
    if len(numbers) != 2:
        return None
    a, b = numbers
    of_years = not {"year", "years", "old", "age"}.isdisjoint(said.split())
    more, less, beside = (_LATER, _EARLIER, _OF_YEARS) if of_years else (_ADD, _LESS, _OF_NUMBERS)
    if _is(said, more, beside):
        return "add", {"a": a, "b": b}
    if (found := _is(said, less, beside)) is None:
        return None
    named = found.groupdict()
    if named.get("turned") or named.get("first") or (named.get("apart") and a < b):
        a, b = b, a
    return ("subtract", {"a": a, "b": b}) if a >= b else None


def _is(said: str, asks: re.Pattern[str], beside: frozenset[str]) -> re.Match[str] | None:
    """Return where a text asks for two numbers, if the rest of it changes nothing."""
    for found in re.finditer(rf"(?<!\S)(?:{asks.pattern})(?!\S)", said):
        if (_ANY | beside).issuperset(f"{said[: found.start()]} {said[found.end() :]}".split()):
            return found
    return None


# Days after a date

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MONTH = rf"({'|'.join(f'{month[:3]}(?:{month[3:]})?' for month in _MONTHS)}|Sept)\.?"
_NTH = r"(?:the )?(\d{1,2})(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"\b(?:{_NTH} (?:day )?(?:of )?{_MONTH}|{_MONTH} {_NTH})(?![\w/]|,? \d{4})", re.IGNORECASE
)
_FORWARD = _words("after from later past plus + add adding ahead forward in following hence")
_OF_DATES = _FORWARD | _words(
    "date day days week weeks # @ which which's when today today's its it'll what'll fall falls land lands "
    "reach than on at count counting go going start starting begin beginning being further calendar later "
    "until"
)


def _days_after(text: str) -> _Found:
    if len(dates := list(_DATE.finditer(text))) != 1:
        return None
    [found] = dates
    said, numbers = _read_words(f"{text[: found.start()]} @ {text[found.end() :]}")
    words = set(said.split())
    if (
        len(numbers) != 1
        or not (span := re.search(r"(?<!\S)# (day|week)s?(?!\S)", said))
        or {"many", "much"} & words
        or re.search(r"\ban? day\b|\bweek", said[: span.start()] + said[span.end() :])
    ):
        return None
    if not words <= _ANY | _OF_DATES or not words & _FORWARD:
        return None
    number, name = (found[1], found[2]) if found[1] else (found[4], found[3])
    month = next(each for each in _MONTHS if each.startswith(name[:3].capitalize()))
    return _covered(int(number), month, numbers[0] * (7 if span[1] == "week" else 1))


def _covered(day: int, month: str, days: int) -> _Found:
    """Return days after a date if they end in the same year, and that has no 29 February."""
    try:
        start = date(2023, _MONTHS.index(month) + 1, day)
    except ValueError:
        return None
    inside = 5 <= days <= 95 and (start + timedelta(days)).year == start.year
    return ("dates", {"day": day, "month": month, "days": days}) if inside else None
