"""Numbers, dates and times of a text, with what belongs to them: scale, unit, currency, sign, weekday.

Each is read in all ways that it may be meant: `1.234` is 1.234 or 1234, a pound is money or weight, 3/4/24
is of March or April. Nothing is converted: 60 minutes are no hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from itertools import product
from typing import NamedTuple

import regex

_list = str.split
_TABLES = files("redraft.checks").joinpath("calendar.txt").read_text("utf-8").split("\n\n")
_ROWS = [[line.split() for line in table.splitlines() if line[:1] != "#"] for table in _TABLES]
MONTHS, DAYS = ([names[0] for names in rows] for rows in _ROWS)
MONTH_OF, DAY_OF = ({name: place for place, names in enumerate(rows) for name in names} for rows in _ROWS)
"""The names of each in seven languages -> its place, from 0."""
ENGLISH = {name: names[0] for rows in _ROWS for names in rows for name in names}
_SMALL = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
_OTHERS = _list(
    "first:1 second:2 third:3 fifth:5 eighth:8 ninth:9 twelfth:12 once:1 twice:2 pair:2 couple:2 half:.5 "
    "quarter:.25"
)
_WORTH: dict[str, Decimal] = {
    **{word: Decimal(value) for value, word in enumerate(_SMALL)},
    **{f"{word}th": Decimal(value) for value, word in enumerate(_SMALL)},
    **{word: Decimal(10 * value) for value, word in enumerate(_TENS, start=2)},
    **{f"{word[:-1]}ieth": Decimal(10 * value) for value, word in enumerate(_TENS, start=2)},
    **{word: Decimal(value) for word, value in (each.split(":") for each in _OTHERS)},
}
_SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "crore": 10**7,
    **dict.fromkeys(_list("millionen millone millione milioni mio mln"), 10**6),
    **dict.fromkeys(_list("milliard milliarde milliarden miliardo miliardi mrd mld"), 10**9),
}
_LETTERS = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}
_LETTERS |= {"万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}

_MONEY = """usd:$,us$,usd,dollar cad:$,c$,cad,dollar aud:$,a$,aud,dollar eur:€,eur,euro gbp:£,gbp,pound,quid
chf:chf,franc sek:sek,krona,kronor nok:nok,krone,kroner dkk:dkk,krone,kroner jpy:¥,jpy,yen cny:¥,cny,rmb,yuan
inr:₹,inr,rupee cent:cent,¢,penny,pence"""
_DURATIONS = (
    "second:second,sec minute:minute,min hour:hour,hr,h day:day week:week,wk month:month year:year,yr"
)
_MEASURES = """%:%,percent,pct mm:mm,millimeter,millimetre cm:cm,centimeter,centimetre m:m,meter,metre
km:km,kilometer,kilometre inch:inch,inches foot:foot,feet,ft yard:yard,yd mile:mile,mi,mph mg:mg,milligram
g:g,gram kg:kg,kilo,kilogram ton:ton,tonne lb:lb,pound oz:oz,ounce ml:ml,milliliter,millilitre l:l,liter,litre
gallon:gallon,gal cup:cup tbsp:tbsp,tablespoon tsp:tsp,teaspoon kb:kb,kilobyte mb:mb,megabyte gb:gb,gigabyte
tb:tb,terabyte c:c,°c,celsius,° f:f,°f,fahrenheit,° word:word character:character token:token"""


def _forms(table: str) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for name, _, forms in (entry.partition(":") for entry in table.split()):
        for form in forms.split(","):
            for each in {form, f"{form}s"} if len(form) > 1 and form.isalpha() else {form}:
                found[each] = found.get(each, frozenset()) | {name}
    return found


UNITS = _forms(f"{_MONEY} {_DURATIONS} {_MEASURES}")
DURATIONS = frozenset(entry.partition(":")[0] for entry in _DURATIONS.split())


def _any(words: Mapping[str, object]) -> str:
    return "|".join(map(regex.escape, sorted(words, key=len, reverse=True)))


_weekday = rf"(?P<weekday>{_any(DAY_OF)})\b\.?,? (?:(?:the|de[nm]|le|el|il) )?"
_month = rf"(?P<month>{_any(MONTH_OF)})\b\.?"
_day = r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|o|\.(?! (?:may|march)\b))?"
_days = rf"(?:{_day}(?: ?[-–] ?| to | and |, ))?{_day}"
_year = r"(?P<year>\d{4})(?!\d)"
DATE = regex.compile(
    rf"(?i)(?<![\p{{L}}\p{{N}}])(?:{_weekday})?(?:"
    rf"{_days}(?: day)?(?: of| de)?[ -]{_month}(?:(?:[, -]+| del? ){_year})?"
    rf"|{_month} {_days}\b(?!:)(?:,? {_year})?|{_month}(?:,| de)? {_year}"
    r"|(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?!\d)"
    r"|(?P<either>\d{1,2})[-/.](?P<other>\d{1,2})[-/.](?P<year>\d{4}|\d{2})(?!\d))"
)
TIME = regex.compile(
    r"(?i)\b(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?\s?(?P<half>[ap])\.?m\b\.?"
    r"|(?<!\d)(?P<hour>\d{1,2}):(?P<minute>\d{2})\b"
)
_unit = rf"(?:(?:swiss|us|u\.s\.|square|cubic|degrees?) )?(?P<unit>(?:{_any(UNITS)})(?![\p{{L}}\p{{N}}]))"
AMOUNT = regex.compile(
    r"(?i)(?<![\p{Lu}\p{Ll}\p{N}_])(?P<sign>(?<![)\]])[-−–]|minus |negative )?"
    rf"(?:(?P<money>{_any(_forms(_MONEY))}) ?(?P<sign>[-−–])?)?"
    r"(?P<amount>\d{1,3}(?: \d{3})+(?:[.,]\d{1,2})?(?!\d|[.,]\d)|\d+(?:[.,']\d+)*)"
    rf"(?:[ -]?(?P<scale>(?:(?:{_any(_SCALES)})s?|{_any(_LETTERS)})(?![\p{{Lu}}\p{{Ll}}\p{{N}}])))?"
    rf"(?:[ -]?{_unit})?"
)
_spoken = rf"(?:{_any({**_WORTH, **_SCALES})})s?\b"
SPOKEN = regex.compile(
    r"(?i)\b(?P<sign>minus |negative )?"
    rf"(?P<spoken>{_spoken}(?:(?:[ -]|,? and | an? ){_spoken})*)(?:[ -]{_unit})?"
)
_SCALE = regex.compile(rf"(?i)(?<!\p{{L}}|\d ?)(?:({_any(_SCALES)})s?|{_any(_LETTERS)})(?!\p{{L}})")
_LESS = regex.compile(
    r"(?i)minus|negative|below|less|fewer|lower|f[ae]ll|drop|decreas|declin|\bdown\b|los[st]|reduc|\bcut|discount"
)
_NEAR = 40  # characters beside a number, in its sentence, in which such a word may be about it
THOUSANDS = regex.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)*")
_OF_DATES = frozenset({"date"})
_STOP = regex.compile(r"\n|[.;] ")


class Amount(NamedTuple):
    """A number as it may be meant."""

    value: Decimal
    scale: int = 1
    units: frozenset[str] = frozenset()  # it has one of them; none for a bare number
    sign: int = 0  # 0 if it may be either, as beside `less`

    @property
    def total(self) -> Decimal:
        """What it is worth."""
        return self.value * self.scale


class Date(NamedTuple):
    """What is known of a date."""

    year: int | None
    month: int
    day: int | None
    weekday: int | None = None  # 0 is Monday

    @property
    def falls_on(self) -> int | None:
        """Its weekday, if that is given or follows."""
        try:
            follows = date(self.year or 0, self.month, self.day or 0).weekday()
        except ValueError:
            return self.weekday
        return follows if self.weekday is None else self.weekday


def amounts_of(match: regex.Match[str]) -> Iterator[Amount]:
    """Yield what a match of `AMOUNT` or `SPOKEN` may be: `5m` is five million or metres, 5% is 0.05."""
    given = match.groupdict()
    scale, sign = (given.get("scale") or "").lower().removesuffix("s"), -1 if given["sign"] else 1
    before = _STOP.split(match.string[max(match.start() - _NEAR, 0) : match.start()])[-1]
    after = _STOP.split(match.string[match.end() : match.end() + _NEAR], maxsplit=1)[0]
    if _LESS.search(f"{before} {after}"):
        sign = 0
    units = UNITS.get((given["unit"] or given.get("money") or "").lower(), frozenset())
    ways = [(_SCALES.get(scale) or _LETTERS.get(scale, 1), units)]
    if scale in ("m", "b") and not units:
        ways.append((1, UNITS.get(scale, units)))
    values = spoken(given["spoken"]) if given.get("spoken") else _readings(given["amount"])
    for value, (factor, meant) in product(values, ways):
        yield Amount(value, factor, meant, sign)
        if "%" in meant:
            yield Amount(value / 100, sign=sign)


def amounts_in(text: str) -> Iterator[Amount]:
    """Yield all numbers of a text, also those within words, and what they may be."""
    rest = DATE.sub(" . ", text)
    for pattern in (AMOUNT, SPOKEN):
        for match in pattern.finditer(rest):
            yield from amounts_of(match)
    yield from (Amount(Decimal(part)) for part in regex.findall(r"(?<=[\p{L}_])\d{1,40}", rest))
    for match in DATE.finditer(text):  # a day is no number of anything
        yield from (Amount(Decimal(part), units=_OF_DATES) for part in regex.findall(r"\d+", match[0]))


@lru_cache(maxsize=16)
def scales_in(text: str) -> frozenset[int]:
    """Return the scales that a text names apart from numbers: `in millions`, `(k)`."""
    found = (match[0].lower().removesuffix("s") for match in _SCALE.finditer(text))
    return frozenset(_SCALES.get(word) or _LETTERS[word] for word in found)


def _readings(text: str) -> Iterator[Decimal]:
    """Yield what digits may be worth: `1,23` is 123 or 1.23, but `1,234` is 1234."""
    digits = text.replace(" ", "").replace("'", "")
    readings = {digits.replace(",", "")}
    if "," in digits and not THOUSANDS.fullmatch(digits):
        readings.add(digits.replace(".", "").replace(",", "."))
    if regex.fullmatch(r"\d{1,3}(?:\.\d{3})+", digits):
        readings.add(digits.replace(".", ""))
    for reading in readings:
        if reading.count(".") > 1 or len(reading) > 40:
            yield from map(Decimal, regex.findall(r"\d{1,40}", reading))
        else:
            yield Decimal(reading)


def spoken(text: str) -> list[Decimal]:
    """Return the numbers that words say: `two hundred and five` is one, `two and five` are two."""
    found = list[Decimal]()
    total = group = Decimal(0)
    for word in regex.findall(r"[a-z]+", text.lower()):
        word = word if word in _WORTH or word in _SCALES else word.removesuffix("s")
        if (scale := _SCALES.get(word)) is not None:
            group = (group or 1) * Decimal(scale)
            if scale > 100:
                total, group = total + group, Decimal(0)
        elif (worth := _WORTH.get(word)) is not None:
            tens = group % 10 == 0 and group % 100 >= 20 and worth < 10
            if group and not tens and group % 100:
                found.append(total + group)
                total = group = Decimal(0)
            group += worth
    return [*found, total + group]


def dates_of(match: regex.Match[str]) -> Iterator[Date]:
    """Yield what a date may be: 3/4/24 is of March or April, and of 1924 or 2024; 3 to 5 May is two."""
    given = match.groupdict()
    year = int(given["year"]) if given["year"] else None
    years = [year] if year is None or year > 99 else [1900 + year, 2000 + year]
    pairs: list[tuple[int, int | None]]
    if given["either"]:
        first, second = int(given["either"]), int(given["other"])
        pairs = [(first, second), (second, first)]
    else:
        month = given["month"].lower()
        number = int(month) if month.isdigit() else MONTH_OF[month] + 1
        pairs = [(number, int(day)) for day in match.captures("day")] or [(number, None)]
    weekday = DAY_OF.get((given["weekday"] or "").lower())
    for each, (number, day) in product(years, pairs):
        yield Date(each, number, day, weekday)


def times_of(match: regex.Match[str]) -> set[int]:
    """Return what a time may be, in minutes: 3:30 is in the morning or in the afternoon."""
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        return {(hour % 12 + 12 * (match["half"].lower() == "p")) * 60 + minute}
    return {hour * 60 + minute, (hour + 12) * 60 + minute} if hour < 13 else {hour * 60 + minute}
