"""`grounded`: check by rules that an answer's numbers, names, dates and quotations occur in the prompt.

A number includes the scale, unit, currency and sign. A date includes the weekday and month. A fact
may have several readings: `1.234` is 1.234 or 1234, a pound is money or weight, 3/4/24 is in March or April.
Nothing is converted: 60 minutes are not an hour. A capitalised word at the beginning of a sentence, label or
value is a name only if it is not a common English word (`common_words.txt`); in other languages, no such word
is checked. Quotation marks around the whole answer mark no quotation, unless the prompt says "quote" or
"cite". Relations between facts, and `one` to `twelve` without a unit, are not checked. The prompt's names may
be in lower case, and the prompt's dates may lack the weekday, or have the year elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise, product
from typing import NamedTuple
from unicodedata import normalize

import regex

from redraft.chain import Prompt, content_of, visible
from redraft.checks.base import DEMANDS, Outcome, failed, passed
from redraft.checks.pattern import readable
from redraft.checks.text import is_json, unescaped

_list = str.split
_TABLES = files("redraft.checks").joinpath("calendar.txt").read_text("utf-8").split("\n\n")
_ROWS = [[line.split() for line in table.splitlines() if line[:1] != "#"] for table in _TABLES]
MONTHS, DAYS = ([names[0] for names in rows] for rows in _ROWS)
MONTH_OF, DAY_OF = ({name: place for place, names in enumerate(rows) for name in names} for rows in _ROWS)
"""Map the names of months and days in seven languages to numbers, from 0."""
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
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES |= {"trillion": 10**12, "lakh": 10**5, "crore": 10**7}
_SCALES |= dict.fromkeys(_list("millionen millone millione milioni mio mln"), 10**6)
_SCALES |= dict.fromkeys(_list("milliard milliarde milliarden miliardo miliardi mrd mld"), 10**9)
_LETTERS = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}
_LETTERS |= {"万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}

_MONEY = """usd:$,us$,usd,dollar cad:$,c$,cad,dollar aud:$,a$,aud,dollar eur:€,eur,euro gbp:£,gbp,pound,quid
chf:chf,franc sek:sek,krona,kronor nok:nok,krone,kroner dkk:dkk,krone,kroner jpy:¥,jpy,yen cny:¥,cny,rmb,yuan
inr:₹,inr,rupee cent:cent,¢,penny,pence"""
_PERIODS = "second:second,sec minute:minute,min hour:hour,hr,h day:day week:week,wk month:month year:year,yr"
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


UNITS = _forms(f"{_MONEY} {_PERIODS} {_MEASURES}")
DURATIONS = frozenset(entry.partition(":")[0] for entry in _PERIODS.split())


def _any(words: Mapping[str, object]) -> str:
    return "|".join(map(regex.escape, sorted(words, key=len, reverse=True)))


_weekday = rf"(?P<weekday>{_any(DAY_OF)})\b\.?,? (?:(?:the|de[nm]|le|el|il) )?"
_month = rf"(?P<month>{_any(MONTH_OF)})\b(?:\.(?=[ ,]*\d))?"
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
    r"(?i)\b(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?\s?(?P<half>[ap])\.?m\b(?:\.(?!\s+(?-i:\p{Lu})))?"
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
_DOTTED = regex.compile(r"(?!\d{1,3}(?:\.\d{3})+\Z)\d+(?:\.\d+){2,}")  # a version or an address: 2.4.1
_number_word = rf"(?:{_any({**_WORTH, **_SCALES})})s?\b"
SPOKEN = regex.compile(
    r"(?i)\b(?P<sign>minus |negative )?"
    rf"(?P<spoken>{_number_word}(?:(?:[ -]|,? and | an? ){_number_word})*)(?:[ -]{_unit})?"
)
_SCALE = regex.compile(rf"(?i)(?<!\p{{L}}|\d ?)(?:({_any(_SCALES)})s?|{_any(_LETTERS)})(?!\p{{L}})")
_LESS = regex.compile(
    r"(?i)minus|negative|below|less|fewer|lower|f[ae]ll|drop|decreas|declin|\bdown\b|los[st]|reduc|\bcut|discount"
)
_NEAR = 40  # most characters between a number and a word such as `less` that is about the number
THOUSANDS = regex.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)*")
_STOP = regex.compile(r"\n|[.;] ")
_THINGS = regex.compile(  # what a number counts: `24 desk lamps`
    r" (?:(?!(?:for|per|and|with|from|until|each|plus|are|were|have|the|than|but)\b)\p{Ll}{3,} )?"
    r"(?!(?:was|has|plus|minus|this|its|does|always|points|degrees|bucks)\b)(?P<last>\p{Ll}{3,}(?<!s)s)\b"
)
_COUNT = frozenset(("count",))
_CITE = regex.compile(r"(?i)\b(?:quote|quoting|cite|citing)\b")  # but not "in quotes", "in quotation marks"


class Amount(NamedTuple):
    """A possible reading of a number."""

    value: Decimal
    scale: int = 1
    units: frozenset[str] = frozenset()  # its possible units; empty for a bare number
    sign: int = 0  # 1 or -1; 0 if it may be either, as next to `less`
    things: str = ""  # the noun that it counts: `lamps`

    @property
    def total(self) -> Decimal:
        """The value multiplied by the scale."""
        return self.value * self.scale


class Date(NamedTuple):
    """A date. Unknown parts are None."""

    year: int | None
    month: int
    day: int | None
    weekday: int | None = None  # 0 is Monday

    @property
    def falls_on(self) -> int | None:
        """The weekday, given or computed; None if unknown."""
        try:
            follows = date(self.year or 0, self.month, self.day or 0).weekday()
        except ValueError:
            return self.weekday
        return follows if self.weekday is None else self.weekday


def amounts_of(match: regex.Match[str]) -> Iterator[Amount]:
    """Yield the readings of a match of `AMOUNT` or `SPOKEN`: `5m` is 5 million or 5 metres."""
    given = match.groupdict()
    scale, sign = (given.get("scale") or "").lower().removesuffix("s"), -1 if given["sign"] else 1
    before = _STOP.split(match.string[max(match.start() - _NEAR, 0) : match.start()])[-1]
    after = _STOP.split(match.string[match.end() : match.end() + _NEAR], maxsplit=1)[0]
    if _LESS.search(f"{before} {after}"):
        sign = 0
    named = (given["unit"] or given.get("money") or "").lower()
    *_, things = _things(match).rpartition(" ")
    units = _COUNT if things else UNITS.get(named, frozenset())
    ways = [(_SCALES.get(scale) or _LETTERS.get(scale, 1), units)]
    if scale in ("m", "b") and not units:
        ways.append((1, UNITS.get(scale, units)))
    values = spoken(given["spoken"]) if given.get("spoken") else _readings(given["amount"])
    for value, (factor, meant) in product(values, ways):
        yield Amount(value, factor, meant, sign, things)
        if "%" in meant:
            yield Amount(value / 100, sign=sign)


def _things(match: regex.Match[str]) -> str:
    given, things = match.groupdict(), _THINGS.match(match.string, match.end())
    counts = not (given["unit"] or given.get("money"))
    return str(things[0]) if things and counts and things["last"] not in UNITS else ""


def amounts_in(text: str) -> Iterator[Amount]:
    """Yield the readings of all numbers in a text, including numbers within words."""
    rest = DATE.sub(" . ", text)
    for pattern in (AMOUNT, SPOKEN):
        for match in pattern.finditer(rest):
            yield from amounts_of(match)
    yield from (Amount(Decimal(part)) for part in regex.findall(r"(?<=[\p{L}_])\d{1,40}", rest))
    for match in DATE.finditer(text):  # the numbers in a date are not counts; a year may be
        for part in regex.findall(r"\d+", match[0]):
            yield Amount(Decimal(part), units=frozenset(("date",)) | (_COUNT if len(part) > 2 else set()))


@lru_cache(maxsize=16)
def scales_in(text: str) -> frozenset[int]:
    """Return the scales in a text that follow no number: 1,000,000 for `in millions`, 1,000 for `(k)`."""
    found = (match[0].lower().removesuffix("s") for match in _SCALE.finditer(text))
    return frozenset(_SCALES.get(word) or _LETTERS[word] for word in found)


def _readings(text: str) -> Iterator[Decimal]:
    digits = text.replace(" ", "").replace("'", "")
    readings = {digits.replace(",", "")}
    if "," in digits and not THOUSANDS.fullmatch(digits):
        readings.add(digits.replace(".", "").replace(",", "."))
    if regex.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", digits):
        whole = digits.replace(".", "").replace(",", ".")
        readings = {whole} if digits.count(".") > 1 else readings | {whole}
    for reading in readings:
        if reading.count(".") > 1 or len(reading) > 40:
            yield from map(Decimal, regex.findall(r"\d{1,40}", reading))
        else:
            yield Decimal(reading)


def spoken(text: str) -> list[Decimal]:
    """Return the numbers that a text writes in words: 25 for `twenty-five`, 2 and 5 for `two and five`."""
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
    """Yield the readings of a date: 3/4/24 is in March or April, in 1924 or 2024."""
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
    """Return the readings of a time, in minutes after midnight: 3:30 is 210 or 930."""
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        return {(hour % 12 + 12 * (match["half"].lower() == "p")) * 60 + minute}
    return {hour * 60 + minute, (hour + 12) * 60 + minute} if hour < 13 else {hour * 60 + minute}


_FEW = 12  # number words up to this one are often not amounts: `one of them`, `step two`
_WEEKDAY = regex.compile(rf"(?i)\b(?:{'|'.join(name for name in DAY_OF if len(name) > 4)})s?\b")
_MONTH = regex.compile(  # `may` and `march` are verbs, too
    r"(?:(?<=\b(?:in|of|since|until|by|from|to|last|this|next|and) |[:,|\"] ?)(?:March|May)"
    rf"|June|July|{'|'.join(name.title() for name in MONTH_OF if len(name) > 4 and name != 'march')})\b"
)
_LINK = regex.compile(
    r"(?i)\b(?:https?://|www\.)[^\s<>\])\"]*[^\s<>\])\".,;:!?]|(?<![\w.+-])[\w.+-]++@[\w-]+\.[\w.-]+\w"
)
_DOMAIN = regex.compile(r"(?<![\w.@/-])(?:[\p{L}\p{N}-]+\.){1,9}(?:com|org|net|edu|gov|io|dev|ai|co\.uk)\b")
_MIXED = regex.compile(r"\b(?:\p{Lu}\p{L}*-|[\p{Lu}\p{Ll}]+)\d[\w-]*(?:\.\d+)*")
_CODE = regex.compile(  # 14D; but not 5KM, 10K, 1ST and 24V
    rf"\b(\d+)(?!(?i:{_any({**UNITS, **_LETTERS})}|st|nd|rd|th|k?[vw]|k?hz)\b)(\p{{Lu}}[\p{{Lu}}\d]*)\b"
)
_CURLY = regex.compile(r"“([^“”\n]+)”|«([^«»\n]+)»")
QUOTED = regex.compile(_CURLY.pattern + r"|\"([^\"\n]+)\"")
_VALUE = regex.compile(r"(?<=\")\s*[]},:]")  # after a key or value of JSON
_ESCAPED = regex.compile(r'(?<!\\)\\"((?:[^"\\\n]|\\[^"])++)\\"')  # a quotation in a JSON string
_UNIT = regex.compile(r"\p{L}{2,}|[%°$€£¥₹]")
_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*")
_LIST_MARK = regex.compile(
    r"(?m)^[^\S\n]*(?:#+[^\S\n]*)?(?:\*\*)?\(?\d{1,3}[-.):](?=\s|\*)"
    r"|^[^\S\n]*(?i:step|part|section|question|item|fact|person|name) \d+\b|\[\d{1,2}\]"
)
_PLACEHOLDER = regex.compile(  # code that is not data, [Your Name], tags, and the keys of JSON
    r"```(?!json|ya?ml|csv|xml|te?xt|markdown|md|\s).*?(?:```|\Z)|(?<!`)`[^`\n]++`(?!`)"
    r"|\[(?!')[^][\n\",\d]+\](?!\()|<[^<>\n]*+>|(?<=\")[a-z_]\w*(?=\"\s*:)",
    regex.DOTALL,
)
_POLITE = "i ok tv am pm mr mrs ms dr prof jr sr st inc ltd sir madam dear hi hello internet"
_NO_NAMES = frozenset([*_POLITE.split(), *MONTH_OF, *DAY_OF])
_ENDINGS = ("es", "a", "an", "ian", "n", "ish", "ese", "ean", "i", "y", "ic", "er", "en")
_BEGINS = regex.compile(r"[^\s\p{L}\p{N},'&/-]|--| - ")
_STREET = regex.compile(r'" {2,}\Z')  # in a value of JSON, a number before a name, blanked: "12 Mill Lane"
_SENTENCE = regex.compile(r"(?r)\p{Ll} .*[.!?]\s*\Z")
_CAPITALS = 0.25  # above this share of capitalised words within sentences, as in German, these are no names
_ENGLISH = 0.6  # least share of common words in an English text, among words without a capital
_MOST_SHOWN = 8
_NUMBER = "the number "


@dataclass(frozen=True)
class Source:
    """The facts of a prompt."""

    text: str
    words: frozenset[str]  # the words and their stems
    initials: str  # the first letters of words with a capital
    english: bool
    links: frozenset[str]
    amounts: dict[Decimal, set[Amount]]  # by value, with and without the scale
    units: frozenset[str]
    used: frozenset[str]  # the units of its numbers, and the nouns that they count
    scales: frozenset[int]
    dates: frozenset[Date]
    times: frozenset[int]

    @classmethod
    def of(cls, text: str) -> Source:
        """Find the facts of a prompt."""
        plain = regex.sub(r"(?<=\S)\n(?=\S)", " ", _plain(text))  # a line may end within a date
        words = _WORD.findall(plain)
        amounts: dict[Decimal, set[Amount]] = defaultdict(set)
        for amount in amounts_in(plain):
            amounts[amount.value].add(amount)
            amounts[amount.total].add(amount)
        links = [_link(match[0]) for match in _LINK.finditer(plain.replace("\\/", "/"))]
        dates = frozenset(date for match in DATE.finditer(plain) for date in dates_of(match))
        named = {MONTHS[date.month - 1] for date in dates if 1 <= date.month <= 12}
        named |= {DAYS[date.falls_on] for date in dates if date.falls_on is not None}
        named |= set(map(_in_english, [*words, *_WEEKDAY.findall(plain)]))
        return cls(
            _bare(plain),
            frozenset(stem for word in [*words, *named] for stem in _stems(word)),
            "".join(word[0] for word in words if word[0].isupper()),
            is_english(words),
            frozenset(each for link in links for each in (link, link.partition("://")[2])),
            dict(amounts),
            frozenset(unit for word in _UNIT.findall(plain.lower()) for unit in UNITS.get(word, ())),
            frozenset[str]().union(*(a.units | {a.things} for same in amounts.values() for a in same)),
            scales_in(plain),
            dates,
            frozenset(time for match in TIME.finditer(plain) for time in times_of(match)),
        )

    def has(self, text: str) -> bool:
        """Return whether the prompt has the words of a text one after the other, ignoring punctuation."""
        return f" {_bare(text)} ".replace("  ", " ") in f" {self.text} "

    def has_word(self, word: str) -> bool:
        """Return whether the prompt has a form of a word."""
        initials = "US" if word == "USA" else word
        unit = UNITS.get(word.lower(), frozenset())
        others = word.isupper() and (initials in self.initials or not unit.isdisjoint(self.units))
        return others or not self.words.isdisjoint(_stems(word))

    def has_amount(self, amount: Amount, scales: frozenset[int]) -> bool:
        """Return whether the prompt has an amount, with the same unit and sign.

        If `amount` has no scale, the prompt's may have any of `scales`, such as 1,000,000 for `in millions`.
        """
        vague = frozenset() if self.english else _COUNT  # `24 heures` are 24 hours
        known, free = self.units | DURATIONS | _COUNT, self.units - self.used  # `in euros: 80 covers it`
        # A word that the prompt does not count may be a verb: `80 covers it`.
        units = amount.units if not amount.things or amount.things in self.used else frozenset()
        return any(
            self._same(amount, found, scales)
            and amount.sign * found.sign >= 0
            # An age of 16 is 16 years. Units other than durations must occur in the prompt.
            and (not units or units & (found.units - vague or known) or (found.things and units & free))
            for value in {amount.value, amount.total}
            for found in self.amounts.get(value, ())
        )

    def _same(self, amount: Amount, found: Amount, scales: frozenset[int]) -> bool:
        if amount.total == found.total or amount.value != found.value:
            return amount.total == found.total
        if amount.scale == 1:
            return found.scale in scales
        return found.scale == 1 and amount.scale in self.scales

    def has_date(self, date: Date) -> bool:
        """Return whether a date's known parts occur in the prompt."""
        for other in self.dates:
            apart = other.year is None and Decimal(date.year or 0) in self.amounts
            year = apart or date.year in (None, other.year)
            weekday = date.weekday is None or other.falls_on in (None, date.weekday)
            if date.month == other.month and date.day in (None, other.day) and year and weekday:
                return True
        return False


@lru_cache(maxsize=16)
def source_of(prompt: str) -> Source:
    """Return the facts of a prompt."""
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
        """Pass if all facts occur in the prompt. Otherwise the score is the share of facts found."""
        source = source_of(prompt.said)
        text = _without_escapes(answer)
        seen = list(facts_in(text, source))
        facts = {fact: found for fact, found, _ in seen}
        missing = [fact for fact, found in facts.items() if not found]
        if missing:  # facts read from the prompt itself count as known: a text is grounded in itself
            parts = [prompt.said, prompt.instruction, prompt.input, *map(content_of, prompt.messages or ())]
            own = {fact for part in parts for fact, *_ in facts_in(_without_escapes(part), source)}
            own |= {fact for fact, found, _ in facts_in(text, source_of(DEMANDS.get())) if found}
            missing = [fact for fact in missing if fact not in own]
        if not missing:
            return passed("Its numbers, names, dates and quotations are in the request.")
        more = f", and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        shown = [regex.sub(r"(?<=^.{300}).+(?<=\w)", "…", each) for each in missing[:_MOST_SHOWN]]
        numbers = [each.removeprefix(_NUMBER) for each in shown if each.startswith(_NUMBER)]
        others = [each for each in shown if not each.startswith(_NUMBER)]
        others += [f"the number{'s' * (len(numbers) > 1)} {', '.join(numbers)}"] * bool(numbers)
        message = f"Not in the request: {', '.join(others)}{more}. Use only what the request has."
        lost = {*missing} if len(text) == len(answer) else set()
        places = [span for fact, _, span in seen if fact in lost]
        return failed(message, score=1 - len(missing) / len(facts), places=places)


def facts_in(answer: str, source: Source) -> Iterator[tuple[str, bool, tuple[int, int]]]:
    """Yield each quotation, date, number and name as (description, whether known, (begin, end))."""
    rest = _LIST_MARK.sub(_end, _PLACEHOLDER.sub(_end, answer))
    for what, pattern, holds in _KINDS:
        kept, pieces = 0, list[str]()
        for match in pattern.finditer(rest):
            if (found := holds(source, match)) is not None:
                things = _things(match) if pattern in (AMOUNT, SPOKEN) else ""
                yield what.format(match[0].strip() + things), found, match.span()
                pieces += [rest[kept : match.start()], " " * len(match[0])]
                kept = match.end()
        rest = "".join([*pieces, rest[kept:]])
    for name, span in _names(rest, source):
        yield f'the name "{name}"', all(map(source.has_word, name.split())), span


def _date(source: Source, match: regex.Match[str]) -> bool | None:
    # A prompt in another language may have dates whose months' names are not known here.
    return any(map(source.has_date, dates_of(match))) or (False if source.dates or source.english else None)


def _quotation(source: Source, match: regex.Match[str]) -> bool | None:
    quoted = next(filter(None, match.groups()))
    is_value = _VALUE.match(match.string, match.end()) and is_json(match.string)
    is_whole = match[0] == match.string.strip(" \n.*") and not _CITE.search(source.text)
    if is_value or is_whole or len(_WORD.findall(quoted)) < 3:  # short quotations often quote nobody
        return None
    return all(map(source.has, regex.split(r"\.{3}|\[[^\]]*\]", quoted)))


def _number(source: Source, match: regex.Match[str]) -> bool | None:
    if match[0] == "0" and not _things(match):  # a field that is empty, or its default
        return None
    if _DOTTED.fullmatch(whole := match["amount"]) and not DATE.fullmatch(whole):
        return bool(regex.search(rf"(?<!\d){_bare(whole)}(?!\d)", source.text))
    scales = scales_in(match.string)
    return any(source.has_amount(amount, scales) for amount in amounts_of(match))


def _spoken(source: Source, match: regex.Match[str]) -> bool | None:
    values = spoken(match["spoken"])
    counts = match["unit"] and not regex.search(r"(?i)(?:th|first|second|third)\Z", match["spoken"])
    if max(values) <= (1 if counts else _FEW):
        return None
    known = {each.value for each in amounts_of(match) if source.has_amount(each, frozenset())}
    return known.issuperset(values)


_KINDS: tuple[tuple[str, regex.Pattern[str], Callable[[Source, regex.Match[str]], bool | None]], ...] = (
    ("the quotation {}", QUOTED, _quotation),
    ("the quotation {}", _CURLY, _quotation),  # in a value of JSON
    ("{}", _LINK, lambda source, match: _link(match[0]) in source.links),
    ("{}", _DOMAIN, lambda source, match: source.has(match[0])),
    ("the date {}", DATE, _date),
    ("the day {}", _WEEKDAY, lambda source, match: source.has_word(_in_english(match[0]))),
    ("the month {}", _MONTH, lambda source, match: source.has_word(_in_english(match[0]))),
    ("the time {}", TIME, lambda source, match: not source.times.isdisjoint(times_of(match))),
    ("{}", _MIXED, lambda source, match: source.has(match[0])),
    ("{}", _CODE, lambda source, match: source.has(match[0]) or source.has(" ".join(match.groups()))),
    (_NUMBER + "{}", AMOUNT, _number),
    (_NUMBER + "{}", SPOKEN, _spoken),
)
"""Rows of a description, a pattern of facts, and a function that looks up a fact (None if unsure)."""


def _names(text: str, source: Source) -> Iterator[tuple[str, tuple[int, int]]]:
    ends = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    lines = list(filter(None, (list(_WORD.finditer(text, *line)) for line in pairwise(ends))))
    words = [word[0] for line in lines for word in line]
    no_names = _NO_NAMES.union(word for word in words if word.islower())
    english = source.english and is_english(words)
    inside = capitals = 0
    # Each name, whether only a name can have a capital there, and its place.
    found: list[tuple[str, bool, tuple[int, int]]] = []
    for line in lines:
        title = sum(word[0][0].isupper() for word in line) > len(line) / 2
        title &= english or not _SENTENCE.search(text, line[0].start(), line[-1].endpos)
        end, last = line[0].start(), 0
        for word in line:
            between, end = word.string[end : word.start()], word.end()
            sure = not (title or word is line[0] or _BEGINS.search(between))
            sure |= bool(_STREET.search(word.string, max(0, word.start() - 9), word.start()))
            inside += sure
            capitals += sure and word[0][0].isupper()
            first = word[0].partition("'")[0]  # in O'Brien, `O` is not the name
            name = first if len(first) > 1 or first == "I" else word[0].removesuffix("'s")
            label = word.string[end : end + 1] == ":" and (sure or (name.isupper() and len(name) < 5))
            if not name[0].isupper() or name.lower() in no_names or len(name) < 2 or label:
                continue
            parts = regex.findall(r"\p{Lu}?\p{Ll}+|\p{Lu}+", name)
            if not sure and (not english or all(map(_in_list, parts))):  # common English words
                continue
            if last and between == " " and last == word.start() - 1:
                before, same, (begin, _) = found[-1]
                found[-1] = (f"{before} {name}", sure and same, (begin, word.start() + len(name)))
            else:
                found.append((name, sure, (word.start(), word.start() + len(name))))
            last = word.end()
    certain = english or inside < 20 or capitals <= _CAPITALS * inside
    yield from ((name, span) for name, sure, span in found if certain or not sure)


@cache
def _common_words() -> frozenset[str]:
    text = files("redraft.checks").joinpath("common_words.txt").read_text("utf-8")
    return frozenset(word for line in text.splitlines() if line[:1] != "#" for word in line.split())


def _in_list(word: str) -> bool:
    low, known = word.lower(), _common_words()
    for end in ("", "s", "es", "d", "ed", "ing", "ly"):
        base = low.removesuffix(end) if len(low) > len(end) + 2 else low
        forms = {base, base + "e" * bool(end), base[:-1] if base[-1:] == base[-2:-1] else base}
        if low.endswith(end) and known & {*forms, regex.sub(r"i\Z", "y", base)}:
            return True
    return False


def is_english(words: Iterable[str]) -> bool:
    """Return whether most words without a capital are common English words."""
    small = [word for word in words if word.islower()]
    return sum(map(_in_list, small)) >= _ENGLISH * len(small)


def _stems(word: str) -> set[str]:
    low = regex.sub(r"(?<=\w\w\w)s\Z", "", regex.sub(r"'s?\Z", "", word.casefold()))
    fitting = (end for end in _ENDINGS if low.endswith(end) and len(low) > len(end) + 2)
    return {low, *map(low.removesuffix, fitting)}


def _in_english(word: str) -> str:
    low = word.lower()
    return ENGLISH.get(low) or ENGLISH.get(low.removesuffix("s"), word)


def _without_escapes(text: str) -> str:
    return _plain(unescaped(_ESCAPED.sub("“\\1”", text)))


def _plain(text: str) -> str:
    return readable(normalize("NFKC", visible(text))).replace("’", "'")


def _link(text: str) -> str:
    return text.casefold() if "@" in text else text.rstrip("/*_'`")


def _bare(text: str) -> str:
    return regex.sub(r"[^\p{L}\p{M}\p{N}]+", " ", text.casefold()).strip()


def _end(match: regex.Match[str]) -> str:
    return "." * len(match[0])
