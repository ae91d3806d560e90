"""`grounded`: numbers, names, dates and quotations of an answer occur in its prompt, by rules.

What is unsure is let through: a word that begins a sentence or stands in a heading is no name, and `one` to
`twelve` are no numbers. The prompt is read generously: a number in words, a part of a date or a word in small
letters is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from unicodedata import normalize

import regex

from redraft.chain import Prompt, visible
from redraft.verify.base import Outcome, failed, passed

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS: dict[str, int | Decimal] = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fifth": 5,
    "eighth": 8,
    "ninth": 9,
    "twelfth": 12,
    "once": 1,
    "twice": 2,
    "pair": 2,
    "couple": 2,
    "dozen": 12,
    "half": Decimal("0.5"),
    "quarter": Decimal("0.25"),
}
_WORTH: dict[str, int | Decimal] = {
    **{word: value for value, word in enumerate(_SMALL)},
    **{word: value for value, word in enumerate(_TENS, start=2) for value in [10 * value]},
    **{f"{word}th": value for value, word in enumerate(_SMALL)},
    **{f"{word[:-1]}ieth": 10 * value for value, word in enumerate(_TENS, start=2)},
    **_ORDINALS,
}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_LETTERS = {"k": 10**3, "m": 10**6, "mn": 10**6, "bn": 10**9, "b": 10**9}
_FEW = 12  # number words up to this one are as often articles and lists as numbers

_month = "(?P<month>" + "|".join(f"{name[:3]}(?:t|{name[3:]})?" for name in _MONTHS) + r")\b\.?"
_day = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\b"
_year = r"(?P<year>\d{4})\b"
_DATE = regex.compile(
    r"(?i)\b(?:"
    rf"{_day}(?: of)?[ -]{_month}(?:[, -]+{_year})?"
    rf"|{_month} {_day}(?!:)(?:,? {_year})?|{_month},? {_year}"
    r"|(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})\b"
    r"|(?P<either>\d{1,2})[-/.](?P<other>\d{1,2})[-/.](?P<year>\d{4}|\d{2})\b)"
)
_TIME = regex.compile(
    r"(?i)\b(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?\s?(?P<half>[ap])\.?m\b\.?"
    r"|\b(?P<hour>\d{1,2}):(?P<minute>\d{2})\b"
)
_LINK = regex.compile(r"(?i)\b(?:https?://|www\.)[^\s<>\])\"]+|[\w.+-]+@[\w-]+\.[\w.-]+\w")
_scale = "(?P<scale>%|(?:percent|hundred|thousand|million|billion|trillion|k|mn?|bn?)\\b)"
_DIGITS = regex.compile(
    r"(?i)(?<![\p{L}\p{N}_])(?P<amount>\d+(?:[.,']\d+)*(?: \d{3}(?!\d|[.,]\d))*)"
    rf"(?: ?{_scale}|\p{{L}}+)?"
)
_MIXED = regex.compile(r"\b(?:\p{Lu}\p{L}*-|\p{L}+)\d[\w-]*")
_NUMBER_WORD = "|".join(sorted([*_WORTH, *_SCALES], key=len, reverse=True))
_IN_WORDS = regex.compile(rf"(?i)\b(?:{_NUMBER_WORD})s?(?:(?:[ -]|,? and )(?:{_NUMBER_WORD})s?)*\b")
_QUOTED = regex.compile(r"“([^“”\n]+)”|«([^«»\n]+)»|\"([^\"\n]+)\"")
_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*")
_LIST_MARK = regex.compile(
    r"(?m)^[^\S\n]*(?:#+[^\S\n]*)?(?:\*\*)?\(?\d{1,3}[-.):](?=\s|\*)"
    r"|^[^\S\n]*(?i:step|part|section|question) \d+\b|\[\d{1,2}\]"
)
_PLACEHOLDER = regex.compile(r"```.*?(?:```|\Z)|`[^`\n]*+`|\[[^][\n]*+\]|<[^<>\n]*+>", regex.DOTALL)
_POLITE = "i ok tv am pm mr mrs ms dr sir madam dear hi hello internet"
_NO_NAMES = frozenset([*_POLITE.split(), *_MONTHS, *_DAYS])
_ENDINGS = ("es", "a", "an", "ian", "n", "ish", "ese", "ean", "i", "y", "ic", "er", "en")
_BEGINS = regex.compile(r"[^\s\p{L}\p{N},'&/-]|--| - ")
_CAPITALS = 0.25  # share of capitals within sentences above which they are no sign of names, as in German
_MOST_SHOWN = 8


Date = tuple[int | None, int, int | None]  # year, month, day


@dataclass(frozen=True)
class Source:
    """What a prompt has."""

    text: str
    words: frozenset[str]  # and other forms of them
    capitals: frozenset[str]  # words in capitals
    initials: str  # of all words that begin with a capital
    numbers: frozenset[Decimal]
    dates: frozenset[Date]
    times: frozenset[int]

    @classmethod
    def of(cls, text: str) -> Source:
        """Read a prompt."""
        plain = _plain(text)
        words = _WORD.findall(plain)
        found = {
            value for match in _DIGITS.finditer(plain) for value in _values(match["amount"], match["scale"])
        }
        found |= {Decimal(part) for part in regex.findall(r"\d{1,40}", plain)}
        found |= {value for match in _IN_WORDS.finditer(plain) for value in _in_words(match[0])}
        dates = {date for match in _DATE.finditer(plain) for date in _dates(match)}
        named = {_MONTHS[month - 1] for _, month, _ in dates if 1 <= month <= 12}
        return cls(
            _bare(plain),
            frozenset(stem for word in [*words, *named] for stem in _stems(word)),
            frozenset(filter(str.isupper, words)),
            "".join(word[0] for word in words if word[0].isupper()),
            frozenset(found),
            frozenset(dates),
            frozenset(time for match in _TIME.finditer(plain) for time in _times(match)),
        )

    def has(self, text: str) -> bool:
        """Return whether words occur in this order, whatever stands between them but letters and digits."""
        return f" {_bare(text)} ".replace("  ", " ") in f" {self.text} "

    def has_number(self, match: regex.Match[str]) -> bool:
        """Return whether a number in digits occurs: in one of its readings, or each of two that touch."""
        parts = match["amount"].split(" ")
        if self.numbers.intersection(_values(match["amount"], match["scale"])):
            return True
        return len(parts) > 1 and all(self.numbers.intersection(_values(part, None)) for part in parts)

    def has_date(self, match: regex.Match[str]) -> bool:
        """Return whether a date occurs, as far as it is given. Its year may stand elsewhere."""
        for year, month, day in _dates(match):
            for other in self.dates:
                same_year = year in (None, other[0]) or (
                    other[0] is None and Decimal(year or 0) in self.numbers
                )
                if month == other[1] and day in (None, other[2]) and same_year:
                    return True
        return False

    def has_name(self, name: str) -> bool:
        """Return whether each word of a name occurs in some form, or its initials, or what it is those of."""
        initials = "".join(word[0] for word in name.split())
        if len(initials) > 1 and initials in self.capitals:
            return True
        return all(
            not self.words.isdisjoint(_stems(word)) or (word.isupper() and word in self.initials)
            for word in name.split()
        )


@lru_cache(maxsize=16)
def source_of(prompt: str) -> Source:
    """Read a prompt once for all its answers."""
    return Source.of(prompt)


@dataclass(frozen=True)
class Grounded:
    """`grounded`: numbers, names, dates and quotations of the answer occur in the prompt."""

    name: str = field(default="grounded", init=False)
    demand: str = field(
        default="Use only numbers, names, dates and quotations that are in the request.",
        init=False,
        repr=False,
    )

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Pass if all of them occur. A miss scores the share that does."""
        source = source_of(prompt.said)
        facts = dict(facts_in(_plain(answer), source))
        missing = [fact for fact, found in facts.items() if not found]
        if not missing:
            return passed("Its numbers, names, dates and quotations are in the request.")
        more = f", and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        named = ", ".join(missing[:_MOST_SHOWN])
        message = f"The answer has {named}{more}: the request does not. Use only what the request has."
        return failed(message, score=1 - len(missing) / len(facts))


def facts_in(answer: str, source: Source) -> Iterator[tuple[str, bool]]:
    """Yield quotations, dates, numbers and names of an answer, in words, and whether a source has each."""
    rest = _LIST_MARK.sub(_end, _PLACEHOLDER.sub(_end, answer))
    for what, pattern, holds in _KINDS:
        for match in pattern.finditer(rest):
            if (found := holds(source, match)) is not None:
                yield what.format(_cut(match[0].strip())), found
        rest = pattern.sub(_gap, rest)
    for name in _names(rest):
        yield f'the name "{_cut(name)}"', source.has_name(name)


def _quotation(source: Source, match: regex.Match[str]) -> bool | None:
    quoted = next(filter(None, match.groups()))
    if len(_WORD.findall(quoted)) < 3:  # a word in quotation marks is often none of another's
        return None
    return all(map(source.has, regex.split(r"\.{3}|\[[^\]]*\]", quoted)))


def _counted(source: Source, match: regex.Match[str]) -> bool | None:
    values = _in_words(match[0])
    return None if max(values) <= _FEW else not source.numbers.isdisjoint(values)


_KINDS: tuple[tuple[str, regex.Pattern[str], Callable[[Source, regex.Match[str]], bool | None]], ...] = (
    ("the quotation {}", _QUOTED, _quotation),
    ("{}", _LINK, lambda source, match: source.has(match[0])),
    ("the date {}", _DATE, lambda source, match: source.has_date(match)),
    ("the time {}", _TIME, lambda source, match: not source.times.isdisjoint(_times(match))),
    ("{}", _MIXED, lambda source, match: source.has(match[0])),
    ("the number {}", _DIGITS, lambda source, match: source.has_number(match)),
    ("the number {}", _IN_WORDS, _counted),
)
"""How each kind of fact is called, found and looked for. None for one that is unsure."""


def _names(text: str) -> Iterator[str]:
    """Yield the names in a text: capitalised words within sentences, those that follow each other as one."""
    lines = [list(_WORD.finditer(line)) for line in text.splitlines()]
    words = [word[0] for line in lines for word in line]
    no_names = _NO_NAMES.union(word for word in words if word.islower())
    alone = sum(map(bool, lines)) == 1 and 1 < len(words) < 6 and all(word[0].isupper() for word in words)
    inside = capitals = 0
    found: list[str] = []
    for line in lines:
        if not alone and sum(word[0][0].isupper() for word in line) > len(line) / 2:
            continue  # a heading
        end = last = 0
        for word in line:
            between, end = word.string[end : word.start()], word.end()
            if not alone and (word is line[0] or _BEGINS.search(between)):
                continue
            inside += 1
            capitals += word[0][0].isupper()
            first = word[0].partition("'")[0]  # of O'Brien it is not the name
            name = first if len(first) > 1 or first == "I" else word[0].removesuffix("'s")
            label = word.string[end : end + 1] == ":"
            if not name[0].isupper() or name.lower() in no_names or len(name) < 2 or label:
                continue
            if last and between == " " and last == word.start() - 1:
                found[-1] += f" {name}"
            else:
                found.append(name)
            last = word.end()
    if alone or inside < 20 or capitals <= _CAPITALS * inside:
        yield from found


def _values(text: str, scale: str | None) -> Iterator[Decimal]:
    """Yield what a number may be worth: `1,234` is 1234 or 1.234, `2k` is 2 or 2000, `5%` is 5 or 0.05."""
    digits = text.replace(" ", "").replace("'", "")
    readings = {digits.replace(",", "")}
    if "," in digits:
        readings.add(digits.replace(".", "").replace(",", "."))
    if regex.fullmatch(r"\d{1,3}(?:\.\d{3})+", digits):
        readings.add(digits.replace(".", ""))
    worth = _SCALES.get((scale or "").lower()) or _LETTERS.get((scale or "").lower(), 1)
    for reading in readings:
        if reading.count(".") > 1 or len(reading) > 40:
            yield from map(Decimal, regex.findall(r"\d{1,40}", reading))
            continue
        value = Decimal(reading)
        yield value
        yield value / 100 if (scale or "").lower() in ("%", "percent") else value * worth


def _in_words(text: str) -> list[Decimal]:
    """Return what a number in words is worth, and its parts: two hundred and five is 205, 2, 200 and 5."""
    total = group = Decimal(0)
    parts: set[Decimal] = set()
    for word in regex.findall(r"[a-z]+", text.lower()):
        singular = word if word in _WORTH or word in _SCALES else word.removesuffix("s")
        if singular in _SCALES:
            group = (group or Decimal(1)) * _SCALES[singular]
            if _SCALES[singular] > 100:
                total, group = total + group, Decimal(0)
        elif singular in _WORTH:
            group += Decimal(_WORTH[singular])
            parts.add(Decimal(_WORTH[singular]))
    return [total + group, *parts]


def _dates(match: regex.Match[str]) -> Iterator[Date]:
    """Yield what a date may be: 3/4/24 is of March or April, and of 1924 or 2024."""
    given = match.groupdict()
    year = int(given["year"]) if given["year"] else None
    years = [year] if year is None or year > 99 else [1900 + year, 2000 + year]
    pairs: list[tuple[int, int | None]]
    if given["either"]:
        first, second = int(given["either"]), int(given["other"])
        pairs = [(first, second), (second, first)]
    else:
        month = given["month"].lower()
        number = (
            int(month)
            if month.isdigit()
            else next(i for i, name in enumerate(_MONTHS, 1) if name[:3] == month[:3])
        )
        pairs = [(number, int(given["day"]) if given["day"] else None)]
    for each in years:
        for month_, day in pairs:
            yield each, month_, day


def _times(match: regex.Match[str]) -> set[int]:
    """Return what a time may be, in minutes: 3:30 is in the morning or in the afternoon."""
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        return {(hour % 12 + 12 * (match["half"].lower() == "p")) * 60 + minute}
    return {hour * 60 + minute, (hour + 12) * 60 + minute} if hour < 13 else {hour * 60 + minute}


def _stems(word: str) -> set[str]:
    """Return a word and what is left of it without an ending: Italy and Italian share one."""
    low = regex.sub(r"(?<=\w\w\w)s\Z", "", regex.sub(r"'s?\Z", "", word.casefold()))
    return {low} | {
        low.removesuffix(end) for end in _ENDINGS if low.endswith(end) and len(low) > len(end) + 2
    }


def _plain(text: str) -> str:
    return normalize("NFKC", visible(text)).replace("’", "'")


def _bare(text: str) -> str:
    """Return the letters and digits of a text, for comparing."""
    return regex.sub(r"[^\p{L}\p{M}\p{N}]+", " ", text.casefold()).strip()


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _end(match: regex.Match[str]) -> str:
    """Return as many characters, after which a sentence begins."""
    return "." * len(match[0])


def _gap(match: regex.Match[str]) -> str:
    """Return as many spaces."""
    return " " * len(match[0])
