"""`grounded`: numbers, names, dates and quotations of an answer occur in its prompt, by rules.

A scale, a unit, a currency and a sign belong to their number, a weekday and a month to their date
(`quantities`). Names count wherever they stand. Where a capital may have another reason, as it begins a
sentence, a label or a value, a word is no name if English writes it without one (`common_words.txt`); in
other languages it is let through there. So is all else that is unsure: `one` to `twelve` without a unit are
no numbers. The prompt is read generously: a word in small letters or a part of a date is enough. Who did what
is not checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise
from unicodedata import normalize

import regex

from redraft.chain import Prompt, content_of, visible
from redraft.checks import quantities as read
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.pattern import readable

_FEW = 12  # number words up to this one are as often articles and lists as numbers
_WEEKDAY = regex.compile(rf"(?i)\b(?:{'|'.join(name for name in read.DAY_OF if len(name) > 4)})s?\b")
_MONTH = regex.compile(  # `may` and `march` are verbs, too
    r"(?:(?<=\b(?:in|of|since|until|by|from|to|last|this|next|and) |[:,|\"] ?)(?:March|May)"
    rf"|June|July|{'|'.join(name.title() for name in read.MONTH_OF if len(name) > 4 and name != 'march')})\b"
)
_LINK = regex.compile(r"(?i)\b(?:https?://|www\.)[^\s<>\])\"]+|[\w.+-]+@[\w-]+\.[\w.-]+\w")
_MIXED = regex.compile(r"\b(?:\p{Lu}\p{L}*-|[\p{Lu}\p{Ll}]+)\d[\w-]*(?:\.\d+)*")
QUOTED = regex.compile(r"“([^“”\n]+)”|«([^«»\n]+)»|\"([^\"\n]+)\"")
_JSON = regex.compile(r'\A\s*(?:```\w*\s*)?[\[{]|"\s*:')
_UNIT = regex.compile(r"\p{L}{2,}|[%°$€£¥₹]")
_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*")
_LIST_MARK = regex.compile(
    r"(?m)^[^\S\n]*(?:#+[^\S\n]*)?(?:\*\*)?\(?\d{1,3}[-.):](?=\s|\*)"
    r"|^[^\S\n]*(?i:step|part|section|question|item|fact|person|name) \d+\b|\[\d{1,2}\]"
)
_PLACEHOLDER = regex.compile(  # code that is no data, [Your Name], tags, and the keys of JSON
    r"```(?!json|ya?ml|csv|xml|te?xt|markdown|md|\s).*?(?:```|\Z)|(?<!`)`[^`\n]++`(?!`)"
    r"|\[(?!')[^][\n\",\d]+\](?!\()|<[^<>\n]*+>|\"[a-z_]\w*\"(?=\s*:)",
    regex.DOTALL,
)
_POLITE = "i ok tv am pm mr mrs ms dr prof jr sr st inc ltd sir madam dear hi hello internet"
_NO_NAMES = frozenset([*_POLITE.split(), *read.MONTH_OF, *read.DAY_OF])
_ENDINGS = ("es", "a", "an", "ian", "n", "ish", "ese", "ean", "i", "y", "ic", "er", "en")
_BEGINS = regex.compile(r"[^\s\p{L}\p{N},'&/-]|--| - ")
_SENTENCE = regex.compile(r"\p{Ll} .*[.!?]\s*\Z")
_CAPITALS = 0.25  # share of capitals within sentences above which they are no sign of names, as in German
_ENGLISH = 0.6  # share of common words among those without a capital from which a text is English
_MOST_SHOWN = 8


@dataclass(frozen=True)
class Source:
    """What a prompt has."""

    text: str
    words: frozenset[str]  # and other forms of them
    initials: str  # of all words that begin with a capital
    english: bool
    amounts: dict[Decimal, set[read.Amount]]  # by their value, with the scale and without
    units: frozenset[str]
    scales: frozenset[int]
    dates: frozenset[read.Date]
    times: frozenset[int]

    @classmethod
    def of(cls, text: str) -> Source:
        """Read a prompt."""
        plain = regex.sub(r"(?<=\S)\n(?=\S)", " ", _plain(text))  # a line may end within a date
        words = _WORD.findall(plain)
        amounts: dict[Decimal, set[read.Amount]] = defaultdict(set)
        for amount in read.amounts_in(plain):
            amounts[amount.value].add(amount)
            amounts[amount.total].add(amount)
        dates = frozenset(date for match in read.DATE.finditer(plain) for date in read.dates_of(match))
        named = {read.MONTHS[date.month - 1] for date in dates if 1 <= date.month <= 12}
        named |= {read.DAYS[date.falls_on] for date in dates if date.falls_on is not None}
        named |= set(map(_in_english, [*words, *_WEEKDAY.findall(plain)]))
        return cls(
            _bare(plain),
            frozenset(stem for word in [*words, *named] for stem in _stems(word)),
            "".join(word[0] for word in words if word[0].isupper()),
            is_english(words),
            dict(amounts),
            frozenset(unit for word in _UNIT.findall(plain.lower()) for unit in read.UNITS.get(word, ())),
            read.scales_in(plain),
            dates,
            frozenset(time for match in read.TIME.finditer(plain) for time in read.times_of(match)),
        )

    def has(self, text: str) -> bool:
        """Return whether words occur in this order, whatever stands between them but letters and digits."""
        return f" {_bare(text)} ".replace("  ", " ") in f" {self.text} "

    def has_word(self, word: str) -> bool:
        """Return whether a word occurs in some form; a word in capitals also as initials, or as a unit."""
        initials = "US" if word == "USA" else word
        unit = read.UNITS.get(word.lower(), frozenset())
        others = word.isupper() and (initials in self.initials or not unit.isdisjoint(self.units))
        return others or not self.words.isdisjoint(_stems(word))

    def has_amount(self, amount: read.Amount, scales: frozenset[int]) -> bool:
        """Return whether a number occurs with what belongs to it. `scales` stand elsewhere in the answer."""
        return any(
            self._same(amount, found, scales)
            and amount.sign * found.sign >= 0
            # An age of 16 is 16 years. Other units have to stand somewhere.
            and (not amount.units or amount.units & (found.units or self.units | read.DURATIONS))
            for value in {amount.value, amount.total}
            for found in self.amounts.get(value, ())
        )

    def _same(self, amount: read.Amount, found: read.Amount, scales: frozenset[int]) -> bool:
        """Return whether two numbers are equal. One may have its scale elsewhere: `(in millions)`."""
        if amount.total == found.total or amount.value != found.value:
            return amount.total == found.total
        return (
            found.scale in scales if amount.scale == 1 else found.scale == 1 and amount.scale in self.scales
        )

    def has_date(self, date: read.Date) -> bool:
        """Return whether a date occurs, as far as it is given. Its year may stand elsewhere."""
        for other in self.dates:
            year = date.year in (None, other.year) or (
                other.year is None and Decimal(date.year or 0) in self.amounts
            )
            weekday = date.weekday is None or other.falls_on in (None, date.weekday)
            if date.month == other.month and date.day in (None, other.day) and year and weekday:
                return True
        return False


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
        text = _plain(_unescaped(answer))
        seen = list(facts_in(text, source))
        facts = {fact: found for fact, found, _ in seen}
        missing = [fact for fact, found in facts.items() if not found]
        if missing:  # what is read alike in the prompt is there, however odd: a text is grounded in itself
            parts = [prompt.said, prompt.instruction, prompt.input, *map(content_of, prompt.messages or ())]
            own = {fact for part in parts for fact, *_ in facts_in(_plain(_unescaped(part)), source)}
            missing = [fact for fact in missing if fact not in own]
        if not missing:
            return passed("Its numbers, names, dates and quotations are in the request.")
        more = f", and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        named = ", ".join(f"{each:.80}" for each in missing[:_MOST_SHOWN])
        message = f"The answer has {named}{more}: the request does not. Use only what the request has."
        lost = {*missing} if len(text) == len(answer) else set()
        places = [span for fact, _, span in seen if fact in lost]
        return failed(message, score=1 - len(missing) / len(facts), places=places)


def facts_in(answer: str, source: Source) -> Iterator[tuple[str, bool, tuple[int, int]]]:
    """Yield quotations, dates, numbers and names of an answer, in words; whether a source has each; where."""
    rest = _LIST_MARK.sub(_end, _PLACEHOLDER.sub(_end, answer))
    for what, pattern, holds in _KINDS:
        kept, pieces = 0, list[str]()
        for match in pattern.finditer(rest):
            if (found := holds(source, match)) is not None:
                yield what.format(match[0].strip()), found, match.span()
                pieces += [rest[kept : match.start()], " " * len(match[0])]
                kept = match.end()
        rest = "".join([*pieces, rest[kept:]])
    for name, span in _names(rest, source):
        yield f'the name "{name}"', all(map(source.has_word, name.split())), span


def _unescaped(text: str) -> str:
    """Return a text; of JSON the characters that its escapes stand for, without those beyond 16 bits."""
    if not _is_json(text):
        return text
    text = regex.sub(
        r"(?i)\\u(?:d[89a-f][\da-f]{2}|([\da-f]{4}))", lambda found: chr(int(found[1] or "20", 16)), text
    )
    return regex.sub(r"\\[nrt]", "\n", text)


def _date(source: Source, match: regex.Match[str]) -> bool | None:
    found = any(map(source.has_date, read.dates_of(match)))
    # Names of months in other languages are not known.
    return found or (False if source.dates or source.english else None)


@lru_cache(maxsize=16)
def _is_json(text: str) -> bool:
    return _JSON.search(text) is not None


def _quotation(source: Source, match: regex.Match[str]) -> bool | None:
    quoted = next(filter(None, match.groups()))
    is_value = match[0][0] == '"' and _is_json(match.string)
    if is_value or len(_WORD.findall(quoted)) < 3:  # a word in quotation marks is often none of another's
        return None
    return all(map(source.has, regex.split(r"\.{3}|\[[^\]]*\]", quoted)))


def _number(source: Source, match: regex.Match[str]) -> bool:
    """Return whether a number in digits occurs in one of its readings."""
    scales = read.scales_in(match.string)
    return any(source.has_amount(amount, scales) for amount in read.amounts_of(match))


def _spoken(source: Source, match: regex.Match[str]) -> bool | None:
    values = read.spoken(match["spoken"])
    counts = match["unit"] and not regex.search(r"(?i)(?:th|first|second|third)\Z", match["spoken"])
    if max(values) <= (1 if counts else _FEW):
        return None
    amounts = list(read.amounts_of(match))
    return all(
        any(source.has_amount(each, frozenset()) for each in amounts if each.value == value)
        for value in values
    )


_KINDS: tuple[tuple[str, regex.Pattern[str], Callable[[Source, regex.Match[str]], bool | None]], ...] = (
    ("the quotation {}", QUOTED, _quotation),
    ("{}", _LINK, lambda source, match: source.has(match[0])),
    ("the date {}", read.DATE, _date),
    ("the day {}", _WEEKDAY, lambda source, match: source.has_word(_in_english(match[0]))),
    ("the month {}", _MONTH, lambda source, match: source.has_word(_in_english(match[0]))),
    ("the time {}", read.TIME, lambda source, match: not source.times.isdisjoint(read.times_of(match))),
    ("{}", _MIXED, lambda source, match: source.has(match[0])),
    ("the number {}", read.AMOUNT, _number),
    ("the number {}", read.SPOKEN, _spoken),
)
"""How each kind of fact is called, found and looked for. None for one that is unsure."""


def _names(text: str, source: Source) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the names in a text, those that follow each other as one, and where they are."""
    ends = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    lines = list(filter(None, (list(_WORD.finditer(text, *line)) for line in pairwise(ends))))
    words = [word[0] for line in lines for word in line]
    no_names = _NO_NAMES.union(word for word in words if word.islower())
    english = source.english and is_english(words)
    inside = capitals = 0
    # With whether a capital can only be that of a name.
    found: list[tuple[str, bool, tuple[int, int]]] = []
    for line in lines:
        title = sum(word[0][0].isupper() for word in line) > len(line) / 2
        title &= english or not _SENTENCE.search(text, line[0].start(), line[-1].endpos)
        end, last = line[0].start(), 0
        for word in line:
            between, end = word.string[end : word.start()], word.end()
            sure = not (title or word is line[0] or _BEGINS.search(between))
            inside += sure
            capitals += sure and word[0][0].isupper()
            first = word[0].partition("'")[0]  # of O'Brien it is not the name
            name = first if len(first) > 1 or first == "I" else word[0].removesuffix("'s")
            label = word.string[end : end + 1] == ":" and (sure or (name.isupper() and len(name) < 5))
            if not name[0].isupper() or name.lower() in no_names or len(name) < 2 or label:
                continue
            parts = regex.findall(r"\p{Lu}?\p{Ll}+|\p{Lu}+", name)
            if not sure and (not english or all(map(_in_list, parts))):  # English has it without a capital
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
    """Return whether most words without a capital are common ones of English."""
    small = [word for word in words if word.islower()]
    return sum(map(_in_list, small)) >= _ENGLISH * len(small)


def _stems(word: str) -> set[str]:
    """Return a word and what is left of it without an ending: Italy and Italian share one."""
    low = regex.sub(r"(?<=\w\w\w)s\Z", "", regex.sub(r"'s?\Z", "", word.casefold()))
    return {low} | {
        low.removesuffix(end) for end in _ENDINGS if low.endswith(end) and len(low) > len(end) + 2
    }


def _in_english(word: str) -> str:
    """Return the English name of a month or a day, and any other word as it is."""
    low = word.lower()
    return read.ENGLISH.get(low) or read.ENGLISH.get(low.removesuffix("s"), word)


def _plain(text: str) -> str:
    return readable(normalize("NFKC", visible(text))).replace("’", "'")


def _bare(text: str) -> str:
    return regex.sub(r"[^\p{L}\p{M}\p{N}]+", " ", text.casefold()).strip()


def _end(match: regex.Match[str]) -> str:
    """Return as many characters, after which a sentence begins."""
    return "." * len(match[0])
