"""Checks from a prompt, by rules for what people write: "at most 50 words" gives `words<=50`.

A rule is unsure about most texts, and then says nothing: a wrong check costs an answer, a missing one costs
nothing. To add one, put a function into `RULES`. Each rule sees one sentence, in which quotations are one
character (`Text`), so that a quoted text is never read as a demand.

Of a long text its beginning and its end are read, and of these no long sentence: the time is bounded.
"""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from redraft.chain import Prompt, whole
from redraft.collect.language import BY_NAME
from redraft.verify.base import Check, Outcome, passed

READ = 20_000
"""Characters; of a longer prompt, half of them from its beginning and half from its end are read."""
MOST_SENTENCES = 150
"""At the beginning and at the end; those between are not read."""
LONGEST_SENTENCE = 1200
"""Characters; a longer one is hardly a demand, and is not read."""
MOST_CHECKS = 50
MOST_WORDS = 20
"""Words of a list to use or to avoid; a longer list is hardly one."""
LONGEST_PHRASE = 300

Found = Iterator[str]
Rule = Callable[["Sentence"], Found]


def checks_in(prompt: str) -> tuple[str, ...]:
    """Return what a prompt demands in plain words as checks, in their short form, without repeats.

    Never more than 50. Those that contradict each other are left out.
    """
    if len(prompt) > READ:
        prompt = f"{prompt[: READ // 2]}\n\n{prompt[-READ // 2 :]}"
    text = Text.of(whole(prompt))
    found = list(dict.fromkeys(check for part in text.sentences for rule in RULES for check in rule(part)))
    return tuple(_consistent(found)[:MOST_CHECKS])


# What is read

_BASE, _LAST = 0xF0000, 0xFFFF0
_QUOTED = re.compile(
    r"""```.*?```|"[^"\n]*"|“[^”\n]*”|(?<!\w)'[^'\n]{1,80}'(?!\w)|(?<!\w)‘[^’\n]{1,80}’(?!\w)""", re.DOTALL
)
_PRIVATE = re.compile(r"[\U000F0000-\U0010FFFF]")
_ABBREVIATION = re.compile(r"\b(?:i\.e\.?|e\.g\.?|P\.\s?P\.\s?S\.?|P\.\s?S\.?|etc\.|vs\.)", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?;])\s+|\n+|(?<=[.!?][)\U000F0000-\U000FFFF0])\s+(?=[A-Z])")


@dataclass(frozen=True)
class Text:
    """A prompt in which each quotation and abbreviation is one character that stands for it."""

    plain: str
    masked: str
    hidden: tuple[str, ...]
    known: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Text:
        """Hide the quotations. Of those beyond some thousands all are alike, and give nothing."""
        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return chr(min(_BASE + len(hidden) - 1, _LAST))

        plain = _PRIVATE.sub(" ", text)
        masked = _ABBREVIATION.sub(hide, _QUOTED.sub(hide, plain))
        return cls(plain.strip(), masked, tuple(hidden))

    @property
    def sentences(self) -> Iterator[Sentence]:
        """The sentences and lines that may hold a demand."""
        lines = list(dict.fromkeys(_END.split(self.masked)))
        for line in [*lines[:MOST_SENTENCES], *lines[MOST_SENTENCES:][-MOST_SENTENCES:]]:
            if 3 <= len(line) <= LONGEST_SENTENCE and not _NO_DEMAND.search(line):
                yield Sentence(line, self)

    def shown(self, masked: str) -> str:
        """Return a part of the masked text as it was written."""
        return re.sub(f"[{chr(_BASE)}-{chr(_LAST - 1)}]", lambda m: self.hidden[ord(m[0]) - _BASE], masked)

    def has(self, pattern: str) -> bool:
        """Return whether the text has a pattern, written in any case."""
        if pattern not in self.known:
            self.known[pattern] = re.search(pattern, self.plain, re.IGNORECASE) is not None
        return self.known[pattern]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a prompt, masked, and the prompt."""

    text: str
    of: Text

    def all(self, pattern: str, *, negated: bool = False) -> Iterator[re.Match[str]]:
        """Yield the places of a pattern, written in any case, that are demands; if `negated`, also after a "not"."""
        for match in _compiled(pattern).finditer(self.text):
            before = self.before(match)
            if not _TOLD.search(before) and (negated or not _negated(before)):
                yield match

    def before(self, match: re.Match[str]) -> str:
        """Return what precedes a place."""
        return self.text[max(0, match.start() - 80) : match.start()]

    def phrase(self, masked: str) -> str:
        """Return a phrase without its quotation marks; empty if it is none."""
        text = self.of.shown(masked).strip()
        if len(text) > 1 and (text[0] + text[-1]) in ('""', "''", "“”", "‘’"):
            text = text[1:-1].strip()
        return text if text.isprintable() and len(text) <= LONGEST_PHRASE and "```" not in text else ""


_cache: dict[str, re.Pattern[str]] = {}


def _compiled(pattern: str) -> re.Pattern[str]:
    return _cache.setdefault(pattern, re.compile(pattern, re.IGNORECASE))


_NO_DEMAND = re.compile(
    r"(?:\bnot|n['’]t) (?:have|need|necessarily)\b|\bneed not\b|\bno need\b|\boptional"
    r"|^\W*how (?:do|to|can|many)\b|^\W*(?:if|when|unless|suppose)\b"
    r"|^\W*(?:should|must|why|is|are|does|do|did|was|were|who|when|where) (?!not\b).*\?\W*$"
    r"|^\W*(?:the|this|my|his|her|their|our) \w+ (?:contains?|has|had|was|is|were|wrote|used)\b"
    r"|\b(?:regex|regular expression|function|program|script|parser|SQL|method|class|passwords?|algorithm)\b",
    re.IGNORECASE,
)
"""Sentences that only seem to demand something."""
_OF_PARTS = re.compile(
    r"\b(?:each|every|per)\b(?! (?:other|separated|divided))|\b(?:first|second|third|last) (?:paragraph|section|line|stanza|verse)",
    re.IGNORECASE,
)
"""Sentences that demand something of the parts of an answer."""
_TOLD = re.compile(
    r"\b(?:he|she|they|we|i|who) (?:had|was|were|wrote|used|said|made|has|have|am)\b[^,.;]*$|\bit (?:was|had)\b[^,.;]*$",
    re.I,
)
"""Before a place: a story is told."""
_NOT_HERE = re.compile(
    r"(?:\b(?:not|never|avoid|without|nothing|nobody|no one|none|refrain)|n['’]t)\b(?! (?:only|forget|hesitate))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"[,.;:]|\b(?:and|but|then)\s(?=(?:please |also |it |you |your \w+ |the \w+ )?(?:should|must|use|write|have|keep|make|"
    r"contain|include|respond|answer|reply|be|limit|wrap|highlight|add|end|finish|start|only|mention|put|in|with)\b)",
    re.IGNORECASE,
)


def _negated(before: str) -> bool:
    """Return whether what precedes a place negates it."""
    return _NOT_HERE.search(_CLAUSE.split(before)[-1]) is not None


# Amounts

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "hundred": 100, "a hundred": 100}
_OF_WORD = {word: number for number, word in enumerate(_NUMBERS)} | _TENS
_N = r"(?:\d{1,3}(?:,\d{3})+|\d{1,6}|" + "|".join(sorted(_OF_WORD, key=len, reverse=True)) + ")"
_MORE = dict.fromkeys(
    ("at least", "a minimum of", "minimum of", "minimum", "no fewer than", "no less than", "not less than"), 0
) | dict.fromkeys(("more than", "over", "longer than", "greater than"), 1)
_LESS = dict.fromkeys(
    (
        *("at most", "a maximum of", "maximum of", "maximum", "max.", "max", "no more than", "not more than"),
        *(
            "no longer than",
            "up to",
            "not exceed",
            "not exceeding",
            "limit of",
            "limit is",
            "limited to",
            "not over",
        ),
        *(
            "limit it to",
            "limit your answer to",
            "limit your response to",
            "limit the response to",
            "limit yourself to",
        ),
    ),
    0,
) | dict.fromkeys(("less than", "fewer than", "under", "below"), -1)
"""What stands before a number -> what to add to it for the least, or the most."""
_BEFORE = rf"(?P<before>(?:{'|'.join([*_MORE, *_LESS])}|exactly|only|between|in|write))(?: or equal to)?"
_AFTER = r"(?:or|and) (?P<{0}>more|above|less|fewer|under|below)"
_AMOUNT = (
    rf"(?:\b{_BEFORE}\s+)?(?<![\w.,$-])(?P<n>{_N})(?P<plus>\s?\+)?(?:\s?(?:to|and|-|–)\s?(?P<m>{_N}))?"
    rf"(?:\s{_AFTER.format('mid')})?"
)
_TAIL = (
    rf"(?:\s{_AFTER.format('post')}|\s(?P<bound>minimum|maximum|max|at least|at most|or longer|or shorter))?"
)
_FEW = r"(?:once|twice|thrice)"


def _number(word: str) -> int:
    return _OF_WORD[low] if (low := word.lower()) in _OF_WORD else int(word.replace(",", ""))


Bounds = tuple[int | None, int | None]


def _bounds(match: re.Match[str], before: str = "") -> Bounds | None:
    """Return the bounds that an amount says; None if it says none, or an unsure one. `before` precedes it."""
    found = {name: value.lower() for name, value in match.groupdict().items() if value}
    n, word = _number(found["n"]), found.get("before", "")
    after = found.get("mid") or found.get("post") or found.get("bound") or ""
    if "m" in found:
        high = _number(found["m"])
        return (n, high) if n < high and word in ("", "between", "in") and not after else None
    if after or "plus" in found:
        at_least = "plus" in found or after in ("more", "above", "minimum", "at least", "or longer")
        if word not in ("", "in"):
            return None
        return (n, None) if at_least else (None, n)
    if _negated(before):
        return {"more than": (None, n), "longer than": (None, n), "over": (None, n)}.get(word) or (
            (n, None) if word in ("less than", "fewer than") else None
        )
    if word == "exactly":
        return n, n
    if word in _MORE:
        return n + _MORE[word], None
    if word in _LESS:
        return None, n + _LESS[word]
    return None


FEW = {"words": 4, "sentences": 1, "characters": 10, "paragraphs": 1}
"""Fewer are no limit of a whole answer."""
_UNITS = {
    "words": r"(?:[a-z-]+ )?words?\b(?! (?:in (?!length|total|your|the)|with|that|which|are|should|must|be|of|or phrases?|starting|beginning"
    r"|per|from|to be|have|appear|each|include))",
    "sentences": r"(?:[a-z-]+ )?sentences?\b(?! (?:that|which|in (?:the|each)|per|starting|beginning|each|from|of the))",
    "characters": r"characters\b(?! (?:in|from|that|who|which|are|named|should|must|with|called|of))",
    "paragraphs": r"(?:[a-z-]+ )?paragraphs?\b(?! (?:that|which|in|per|each|from|of the))",
}


def lengths(sentence: Sentence) -> Found:
    """Yield the bounds on words, sentences, characters and paragraphs."""
    if _OF_PARTS.search(sentence.text):
        return
    for unit, noun in _UNITS.items():
        total = rf"\b(?:number of {unit}|{unit[:-1]} count)\s[^.;,]{{0,40}}?\b(?:be|is|at|to)\s{_AMOUNT}(?!\s?[a-z])"
        for match in (
            *sentence.all(rf"{_AMOUNT}[\s-]{noun}{_TAIL}", negated=True),
            *sentence.all(total, negated=True),
        ):
            if unit == "words" and _CAPITALS.search(sentence.text):
                continue
            if unit == "paragraphs" and _divided(sentence.of):
                continue
            bounds = _bounds(match, sentence.before(match))
            said = {name: value for name, value in match.groupdict().items() if value}
            word = said.get("before", "").lower()
            if (
                bounds is None
                and unit in ("sentences", "paragraphs")
                and word in ("in", "only", "write")
                and "m" not in said
            ):
                bounds = (_number(match["n"]),) * 2
            if bounds and not (
                (unit == "words" and (bounds[0] or 10) < 10)
                or (bounds[1] is not None and bounds[1] < FEW[unit])
            ):
                yield _counted(unit, *bounds)


def _counted(unit: str, low: int | None, high: int | None) -> str:
    if low == high:
        return f"{unit}=={low}"
    if low is None:
        return f"{unit}<={high}"
    return f"{unit}>={low}" if high is None else f"{unit}={low}..{high}"


# Words

_Q = f"[{chr(_BASE)}-{chr(_LAST - 1)}]"
_WORD = r"(?!(?:in|the|your|and|or|at|should|must|is|are|to|of|with|for|that|which|anywhere|not|a|an|it|as|be|count|counts|limit|total|game|order|choice|list|you|i|we|they|he|she|from|here|above|below|like|such|have|has|was|were|appears?|only|so|on|by|this|these|those|any)\b)[^\W\d_][\w'’-]{0,30}"
_JOIN = r"(?:\s?,\s?(?:and |or |nor )?|\s(?:and|or|nor|&)\s)(?:the (?:key)?words? )?"
_LIST = rf"(?:{_Q}(?:{_JOIN}{_Q}){{0,{MOST_WORDS - 1}}})"
_BARE = rf"(?:{_WORD}(?:{_JOIN}{_WORD}){{0,{MOST_WORDS - 1}}})(?=\s?(?:[.;!?)\]]|$)|\s(?:in|anywhere|throughout|as|within)\b)"
_NOUN = r"(?:the |these |those |any of the |this )?(?:following |exact |specific )*(?:key ?words?|words?|phrases?|terms?|expressions?)"
_NAMED = rf"{_NOUN}(?: of)?(?: {_Q})?\s?[:,]?\s?[\[(]?(?P<bare>{_BARE})"
_QUOTES = rf"(?:{_NOUN}|(?:the )?(?:name|names))?\s?:?\s?[\[(]?(?P<list>{_LIST})"
_TIMES = r"(?![^,.;]{0,40}\b(?:times?|once|twice|thrice)\b)"
_NOT = (
    r"(?:\b(?:not|never|cannot|avoid|without|refrain from|exclude|no)|n't|n’t)\s(?:(?:any|ever|be|allowed|to|of|the|"
    r"using|use|include|including|mention|mentioning|say|saying|contain|containing|have|write|writing|allow|"
    r"under any circumstances)\s){0,6}"
)
_DO = r"\b(?:include|including|includes|contain|contains|containing|use|using|mention|mentioning|mentions|incorporate|incorporating|has|have|add|with)\s(?:(?:all|both|all of|of|in|your|response|answer|the response)\s){0,3}"


def _listed(sentence: Sentence, match: re.Match[str]) -> list[str]:
    found = match.groupdict()
    items = re.findall(_Q, found["list"]) if found.get("list") else re.split(_JOIN, found.get("bare") or "")
    words = [sentence.phrase(item) for item in items]
    usable = all(0 < len(word) <= 60 and any(map(str.isalnum, word)) for word in words)
    return [word.rstrip(",.") for word in words] if usable else []


def forbidden(sentence: Sentence) -> Found:
    """Yield the words to avoid."""
    for pattern in (rf"{_NOT}{_QUOTES}{_TIMES}", rf"{_NOT}{_NAMED}{_TIMES}"):
        for match in sentence.all(pattern):
            yield from (f"lacks:{word}" for word in _listed(sentence, match))
    for match in sentence.all(
        rf"\b{_NOUN}\s(?P<list>{_LIST})\s(?:should|must|may|can|shall|do|does)\s?(?:not|never)\s(?:appear|be|occur|show)"
    ):
        yield from (f"lacks:{word}" for word in _listed(sentence, match))


def wanted(sentence: Sentence) -> Found:
    """Yield the words to use."""
    if re.search(_NOT, sentence.text, re.IGNORECASE) and not re.search(
        r"forget", sentence.text, re.IGNORECASE
    ):
        start = next(m.start() for m in re.finditer(_NOT, sentence.text, re.IGNORECASE))
    else:
        start = len(sentence.text)
    verbs = r"\b(?:include|including|mention|mentioning|contain|containing)\s(?:both )?"
    noun = rf"{_NOUN}\s?:?\s?[\[(]?"
    for pattern in (
        rf"{_DO}{noun}(?P<list>{_LIST}){_TIMES}",
        rf"{_DO}{_NAMED}{_TIMES}",
        rf"{verbs}(?P<list>{_LIST}){_TIMES}",
        rf"(?:\b(?:with|using|has|have|include|includes|contain|contains)\b|\band)\s(?:the |these )?(?:key)?words?\s?:?\s?(?P<list>{_LIST}){_TIMES}",
        rf"\bthe (?:key)?words?\s(?P<list>{_Q}) at least once",
    ):
        for match in sentence.all(pattern):
            if match.start() < start and not _EDGE.search(sentence.text[: match.end()][-90:]):
                yield from (f"contains:{word}" for word in _listed(sentence, match))


_EDGE = re.compile(
    rf"\b(?:start|begin|end|finish|conclude|close|follow|replace|read|titled|called)(?:s|es|ing|ning|ed)?\s[^.;,]{{0,50}}[{chr(_BASE)}-{chr(_LAST)}]$|"
    r"\b(?:start|begin|end|finish|conclude)(?:s|ing|ning)?\s(?:\w+\s){0,4}with\s(?:the\s)?(?:word|phrase)\s\w+$",
    re.IGNORECASE,
)
"""A phrase that stands at an edge of the answer."""

_HOW_OFTEN = (
    rf"(?:\bfor\s)?(?:{_AMOUNT}\stimes?\b|(?P<least>at least|more than|less than|at most|no more than)\s"
    rf"(?P<few>{_FEW})\b)"
)
_BY_FEW = {"once": 1, "twice": 2, "thrice": 3}


def _often(match: re.Match[str], before: str) -> Bounds | None:
    if match["n"]:
        return _bounds(match, before)
    count, word = _BY_FEW[match["few"].lower()], match["least"].lower()
    if _negated(before):
        return (None, count) if word == "more than" else None
    return (count + _MORE[word], None) if word in _MORE else (None, count + _LESS[word])


def _limits(bounds: Bounds) -> Iterator[tuple[str, int]]:
    """Yield bounds as IFEval writes them."""
    low, high = bounds
    if low is not None:
        yield "at least", low
    if high is not None:
        yield "less than", high + 1


def frequencies(sentence: Sentence) -> Found:
    """Yield how often to use a word or a letter."""
    gap = r"[^,.;:]{0,40}?"
    one = rf"\b(?:key)?word\s(?P<what>{_Q}|{_WORD}){gap}\s{_HOW_OFTEN}"
    mention = rf"\bmention(?:ing)?\s(?P<what>{_Q}){gap}\s{_HOW_OFTEN}"
    for match in (*sentence.all(one, negated=True), *sentence.all(mention, negated=True)):
        bounds, word = _often(match, sentence.before(match)), sentence.phrase(match["what"])
        for relation, count in _limits(bounds) if bounds and word else ():
            if (relation, count) == ("at least", 1):
                yield f"contains:{word}"
            elif (relation, count) == ("less than", 1):
                yield f"lacks:{word}"
            else:
                yield _ifeval("keywords:frequency", keyword=word, relation=relation, frequency=count)
    letter = rf"\bletter\s(?P<what>{_Q}|[^\W\d_])(?!\w)"
    for match in sentence.all(rf"{letter}{gap}\s{_HOW_OFTEN}", negated=True):
        bounds, word = _often(match, sentence.before(match)), sentence.phrase(match["what"])
        if bounds and len(word) == 1:
            yield from (_letters(word, *limit) for limit in _limits(bounds))
    for match in sentence.all(
        rf"{_NOT}letter\s(?P<what>{_Q}|[^\W\d_])(?!\w)(?![^.;]{{0,60}}(?:times|once|twice))"
    ):
        if len(word := sentence.phrase(match["what"])) == 1:
            yield _letters(word, "less than", 1)


def _letters(letter: str, relation: str, count: int) -> str:
    return _ifeval(
        "keywords:letter_frequency", letter=letter.lower(), let_relation=relation, let_frequency=count
    )


def _ifeval(kind: str, **values: str | int) -> str:
    return f"ifeval:{kind} {json.dumps(values, ensure_ascii=False)}" if values else f"ifeval:{kind}"


# Beginning and end

_WHOLE = r"(?:(?:it|this|the|your|whole|entire|full|reply|response|answer|output|essay|story|poem|song|letter|email|post|article|text|message|summary|with)\s){0,5}"
_SAYING = r"(?:(?:the|this|following|exact|exactly|very|words?|phrases?|sentence|statement|text|line|question|same|of)\s?){0,6}[:,]?\s?"


def ends(sentence: Sentence) -> Found:
    """Yield the last phrase."""
    if _OF_PARTS.search(sentence.text):
        return
    said = rf"(?P<what>{_Q})(?!\s(?:and|or)\s{_Q})"
    for pattern in (
        rf"\b(?:end|ends|ending|finish|finishes|conclude|close)\s{_WHOLE}(?:with|by saying|by)\s{_SAYING}{said}",
        rf"\blast (?:sentence|words|line|phrase) of (?:your|the) (?:\w+\s){{0,2}}(?:should|must|has to) be\s{_SAYING}{said}",
        rf"\bvery end of (?:your|the) (?:\w+\s){{0,2}}(?:should|must) (?:read|be|say)\s{_SAYING}{said}",
        rf"\b(?:end|finish|conclude)\s{_WHOLE}with\s(?:this|the) (?:following )?exact (?:phrase|sentence|words):\s(?P<what>[^{chr(_BASE)}-{chr(_LAST)}]{{3,200}})$",
    ):
        for match in sentence.all(pattern):
            if len(phrase := sentence.phrase(match["what"])) > 1:
                yield f"ends:{phrase}"


def starts(sentence: Sentence) -> Found:
    """Yield the first phrase."""
    if re.search(
        r"paragraph|section|stanza|verse|bullet|each|every|\bline|title|sentences\b|post ?script|note|ending",
        sentence.text,
        re.I,
    ):
        return
    for match in sentence.all(
        rf"\b(?:start|begin|starts|begins|starting|beginning)\s{_WHOLE}with\s{_SAYING}(?P<what>{_Q})"
    ):
        if (phrase := sentence.phrase(match["what"])) and len(phrase) > 1:
            yield f"starts:{phrase}"


# Case, marks, language

_CAPITALS = re.compile(
    r"\bwords? (?:are |be )?(?:in|with|which are|that are|written in) (?:all )?(?:capital|caps|upper)|\ball[- ]caps words|\bcapitali[sz]ed? (?:a few|some|certain|key)\b|"
    r"\bwords which are capital|\bwords be in all capital|\bstress words",
    re.IGNORECASE,
)


def case(sentence: Sentence) -> Found:
    """Yield that all letters are small, or all capitals."""
    small = (
        r"\b(?:all|only|entirely|completely) (?:in |use )?(?:the )?(?:lower[- ]?case|small letters)|\blower[- ]?cased?(?: letters?)? only"
        r"|\b(?:no|without|not contain|not use|not include|avoid|any|using) (?:using |any |use of )*capital(?:i[sz]ed)?(?: letters?|i[sz]ations?)\b(?! only)"
        r"|\ball (?:the )?letters (?:in [\w ]{1,30} )?(?:must be |should be |are |in )?lower[- ]?case|\bnot a single letter [\w ]{1,40}capitali[sz]ed"
    )
    if (
        any(True for _ in sentence.all(small))
        and not re.search(r"using capital|any capital", sentence.text, re.I)
    ) or any(
        re.search(
            r"\b(?:not|n't|without|no|never|avoid)\b",
            sentence.text[max(0, m.start() - 25) : m.start() + 12],
            re.I,
        )
        for m in sentence.all(r"\b(?:using|any|use) (?:any )?capital(?:i[sz]ed)? letters")
    ):
        yield _ifeval("change_case:english_lowercase")
    if _CAPITALS.search(sentence.text) or re.search(
        r"\b(?:not|n't|avoid|without|no)\b[^,.;]{0,20}(?:capital|caps|upper)", sentence.text, re.I
    ):
        return
    large = r"\b(?:in|using|with|use) (?:all|only|entirely) (?:capital|caps\b|upper[- ]?case)|\bonly (?:use )?(?:capital|upper[- ]?case) letters|\bcapitali[sz]e (?:all|every)(?: \w+){0,2} (?:words?|letters?)|\bonly in (?:capital|upper)"
    if any(True for _ in sentence.all(large)):
        yield _ifeval("change_case:english_capital")


def capital_words(sentence: Sentence) -> Found:
    """Yield how many words stand in capitals."""
    if not sentence.of.has(_CAPITALS.pattern) or not re.search(
        r"capital|caps|stress words", sentence.text, re.I
    ):
        return
    for match in sentence.all(rf"{_AMOUNT}(?:\stimes?\b|\swords\b|(?=\.?$)){_TAIL}|\b(?:never)"):
        bounds = _bounds(match, "") if match["n"] else None
        for relation, count in _limits(bounds) if bounds else ():
            yield _ifeval(
                "change_case:capital_word_frequency", capital_relation=relation, capital_frequency=count
            )


def commas(sentence: Sentence) -> Found:
    """Yield that there are no commas."""
    if any(True for _ in sentence.all(rf"{_NOT}commas?\b|\bno commas?\b|\bcomma[- ]free\b")):
        yield "lacks:,"


def quotation(sentence: Sentence) -> Found:
    """Yield that the whole stands in double quotation marks."""
    wrap = r"\b(?:wrap|wrapped|put|enclose|enclosed|surround|surrounded)\b[^.;]{0,80}\bdouble[- ]quot(?:es|ation)"
    about = r"\b(?:response|answer|output|reply|whole|entire|everything|\bit\b|text)\b"
    if any(re.search(about, sentence.text, re.I) for _ in sentence.all(wrap)) and not re.search(
        r"\b(?:title|name|words?|each|every|not)\b[^.;]{0,40}\bdouble", sentence.text, re.I
    ):
        yield _ifeval("startend:quotation")


_CODES = BY_NAME | {
    "bengali": "bn",
    "bulgarian": "bg",
    "czech": "cs",
    "danish": "da",
    "farsi": "fa",
    "finnish": "fi",
    "greek": "el",
    "gujarati": "gu",
    "hebrew": "he",
    "hungarian": "hu",
    "indonesian": "id",
    "kannada": "kn",
    "malayalam": "ml",
    "marathi": "mr",
    "nepali": "ne",
    "norwegian": "no",
    "persian": "fa",
    "punjabi": "pa",
    "romanian": "ro",
    "swahili": "sw",
    "swedish": "sv",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "urdu": "ur",
    "vietnamese": "vi",
    "catalan": "ca",
    "croatian": "hr",
    "serbian": "sr",
    "slovak": "sk",
}
"""Languages that people ask for, by name -> ISO 639 code."""


def language(sentence: Sentence) -> Found:
    """Yield the language of the answer."""
    names = "|".join(_CODES)
    found = set()
    for match in sentence.all(
        rf"\b(?:in|using|use|only|entirely)\s(?:only\s|entirely\s|the\s|use\s|in\s){{0,3}}(?P<name>{names})\b"
        r"(?=(?: language)?(?:[.,;!?]|$|\s(?:only|and|why|how|language|no other|without|using|please|that)\b))"
    ):
        if re.search(
            r"\b(?:write|written|respond|reply|answer|explain|response|output|describe|be|rewrite|compose|tell|speak|please|summari[sz]e|joke|rubric|poem|haiku)\b",
            sentence.text,
            re.I,
        ):
            found.add(_CODES[match["name"].lower()])
    if found == {"en"} and re.search(r"lower|capital|caps", sentence.text, re.I):
        return  # the checks of case hold answers to English, too
    if len(found) == 1 and not sentence.of.has(r"\b(?:both|two languages|bilingual|translation)\b"):
        yield f"language:{found.pop()}"


# Form


def in_json(sentence: Sentence) -> Found:
    """Yield that the answer is JSON."""
    asked = r"\b(?:in|as|valid|into|use|using|an?|single|output|return|respond with)\s(?:a\s|an\s|the\s|valid\s|single\s|pure\s){0,3}JSON\b(?! (?:parser|schema|file|library|lines|web|api|token))"
    demand = r"\b(?:wrap\w*|output|format|respond|response|answer|return|reply|give|provide|write|block|list|want|entire)\b"
    other = r"\b(?:not|n't|avoid|parse|function|program|script|code|difference)\b[^.;]{0,30}\bJSON"
    if re.search(other, sentence.text, re.I) or not re.search(demand, sentence.text, re.I):
        return
    if any(True for _ in sentence.all(asked)):
        yield "json"


def bullets(sentence: Sentence) -> Found:
    """Yield an exact number of bullet points."""
    for match in sentence.all(
        rf"{_AMOUNT}\s(?:[a-z-]+\s){{0,2}}bullet(?:ed)?[- ]?(?:points?|list items|items|s\b)"
    ):
        if (
            (match["before"] or "in").lower() in ("exactly", "in", "only", "write")
            and not (match["m"] or match["plus"] or match["mid"])
            and (count := _number(match["n"])) > 0
        ):
            yield _ifeval("detectable_format:number_bullet_lists", num_bullets=count)
    if sentence.of.has(r"bullet points? that are indicated by|into bullet points"):
        for match in sentence.all(rf"\bexactly (?P<n>{_N})\b(?! (?:bullet|word|sentence|paragraph))"):
            yield _ifeval("detectable_format:number_bullet_lists", num_bullets=_number(match["n"]))


def _divided(text: Text) -> bool:
    return text.has(r"(?<!\*)\*\*\*(?!\*)|\bthree asterisk|\b3 ast?erisk")


def paragraphs(sentence: Sentence) -> Found:
    """Yield the number of paragraphs between lines of asterisks, or with a first word."""
    text = sentence.of
    for match in sentence.all(rf"{_AMOUNT}\s(?:[a-z-]+\s){{0,1}}(?:paragraphs?|sections|parts)\b"):
        if (
            (match["before"] or "exactly").lower() in ("exactly", "in", "only")
            and not match["m"]
            and _divided(text)
        ):
            yield _ifeval("length_constraints:number_paragraphs", num_paragraphs=_number(match["n"]))


_ORDINALS = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}


def first_words(sentence: Sentence) -> Found:
    """Yield the first word of a paragraph, where the number of paragraphs is known."""
    nth = r"(?P<nth>last|\d{1,2}(?:st|nd|rd|th)|" + "|".join(_ORDINALS) + ")"
    word = rf"(?:with\s)?(?:the\s)?(?:word\s)(?P<word>{_Q}|{_WORD})"
    pattern = rf"\b{nth} paragraph\s(?:\w+\s){{0,2}}starts?\s{word}|\bstart (?:the )?{nth.replace('nth', 'nth2')} paragraph {word.replace('word>', 'word2>')}"
    many = list(
        _compiled(rf"(?<![\w-])(?P<n>{_N})\s(?:[a-z-]+\s)?paragraphs?\b").finditer(sentence.of.masked[:20000])
    )
    counts = {_number(match["n"]) for match in many}
    for match in sentence.all(pattern):
        place, first = (
            (match["nth"] or match["nth2"]).lower(),
            sentence.phrase(match["word"] or match["word2"]),
        )
        if len(counts) == 1 and first.isalpha() and not _divided(sentence.of):
            count = next(iter(counts))
            at = count if place == "last" else _ORDINALS.get(place) or int(place[:-2])
            if 1 <= at <= count:
                yield _ifeval(
                    "length_constraints:nth_paragraph_first_word",
                    num_paragraphs=count,
                    nth_paragraph=at,
                    first_word=first.lower(),
                )


def title(sentence: Sentence) -> Found:
    """Yield a title in double angular brackets."""
    if any(True for _ in sentence.all(r"\bdouble angular brackets|<<[^<>]{1,60}>>")):
        yield _ifeval("detectable_format:title")


def postscript(sentence: Sentence) -> Found:
    """Yield a postscript with its mark."""
    marks = {
        re.sub(r"\s|\.$", "", found.upper())
        for found in re.findall(r"\bP\.\s?P?\.?\s?S\b", sentence.of.shown(sentence.text))
    }
    if (
        len(marks) == 1
        and re.search(r"\b(?:add|include|end|with|post ?script|starting)\b", sentence.text, re.I)
        and not re.search(r"\b(?:no|not|n't|without|avoid)\b", sentence.text, re.I)
    ):
        yield _ifeval(
            "detectable_content:postscript", postscript_marker="P.P.S" if marks == {"P.P.S"} else "P.S."
        )


def highlights(sentence: Sentence) -> Found:
    """Yield how many sections are highlighted with asterisks."""
    if not re.search(r"highlight|itali[cs]", sentence.text, re.I) or not sentence.of.has(
        r"\*[^\s*][^*\n]{0,200}\*|markdown|\"\*\""
    ):
        return
    noun = r"(?:[a-z-]+\s){0,2}(?:sections?|parts?|phrases|words|texts?|sentences|titles)\b"
    for match in sentence.all(rf"{_AMOUNT}\s{noun}"):
        if (bounds := _bounds(match)) and bounds[1] is None and bounds[0]:
            yield _ifeval("detectable_format:number_highlighted_sections", num_highlights=bounds[0])


def placeholders(sentence: Sentence) -> Found:
    """Yield how many placeholders stand in square brackets."""
    if not sentence.of.has(r"square brackets?|\[[a-z0-9 ]{2,30}\]"):
        return
    for match in sentence.all(rf"{_AMOUNT}\s(?:[a-z-]+\s)?placeholders?\b"):
        if (bounds := _bounds(match)) and bounds[1] is None and bounds[0]:
            yield _ifeval("detectable_content:number_placeholders", num_placeholders=bounds[0])


def sections(sentence: Sentence) -> Found:
    """Yield how many sections are marked `SECTION X`."""
    mark = re.search(
        r"\b(Section|SECTION|PARAGRAPH|Paragraph|Part|PART|Chapter|CHAPTER|Day|DAY) X\b",
        sentence.of.plain[:20000],
    )
    if mark and not _divided(sentence.of):
        for match in sentence.all(rf"{_AMOUNT}\s(?:[a-z-]+\s)?(?:{mark[1]}|section)s?\b"):
            if (match["before"] or "in").lower() in ("in", "at least", "exactly") and not match["m"]:
                yield _ifeval(
                    "detectable_format:multiple_sections",
                    section_spliter=mark[1],
                    num_sections=_number(match["n"]),
                )


def two_responses(sentence: Sentence) -> Found:
    """Yield two responses between six asterisks."""
    text = sentence.of
    six = r"(?<!\*)\*{6,7}(?!\*)|\b(?:6|six) aster"
    if (
        sentence.of.has(six)
        and re.search(six, text.shown(sentence.text), re.I)
        and text.has(r"\b(?:two|both|and|2)\b")
    ):
        yield _ifeval("combination:two_responses")


_REPEAT = re.compile(
    r"\brepeat (?:the |this |all )?(?:\w+ ){0,2}(?:request|sentence|prompt|text|it)\b(?! \")", re.IGNORECASE
)


def repeats(sentence: Sentence) -> Found:
    """Yield that the request is repeated first: what stands above, or below, the demand to repeat."""
    text = sentence.of.plain
    if not _REPEAT.search(sentence.text) or not sentence.of.has(
        r"\bfirst\b|very beginning|before (?:you|repeating)|anything before"
    ):
        return
    if sentence.of.has(r"only contains|does not contain|repeat \""):
        return
    demand = sentence.of.shown(sentence.text)
    at = text.find(demand)
    above, below = text[: max(at, 0)].strip(), text[at + len(demand) :].partition("\n\n")[2].strip()
    if re.search(r"\b(?:below|following)\b", demand, re.I):
        above = ""
    elif above:
        below = ""
    asked = above or below
    if 10 < len(asked) <= 4000 and not _REPEAT.search(asked) and at >= 0:
        yield _ifeval("combination:repeat_prompt", prompt_to_repeat=asked)


RULES: tuple[Rule, ...] = (
    *(
        lengths,
        forbidden,
        wanted,
        frequencies,
        starts,
        ends,
        case,
        capital_words,
        commas,
        quotation,
        language,
    ),
    *(in_json, bullets, paragraphs, first_words, title, postscript, highlights, placeholders, sections),
    *(two_responses, repeats),
)
"""What is read from each sentence. A rule yields checks, or nothing where it is unsure."""


# All together

_COUNT = re.compile(r"(words|sentences|characters|paragraphs)(<=|>=|==|=)(\d+)(?:\.\.(\d+))?")


def _consistent(found: list[str]) -> list[str]:
    """Leave out counts that no text meets, one kind said twice, and what another check says already."""
    again = {"words", "sentences", "characters", "paragraphs"}
    of_unit: dict[str, list[str]] = {}
    for check in found:
        if match := _COUNT.fullmatch(check):
            of_unit.setdefault(match[1], []).append(check)
    unsure = {check for unit in again for check in of_unit.get(unit, []) if not _meet(of_unit[unit])}
    if any("nth_paragraph_first_word" in check for check in found):
        unsure |= set(of_unit.get("paragraphs", []))
    for kind in (
        "number_bullet_lists",
        "number_paragraphs",
        "multiple_sections",
        "number_highlighted_sections",
        "number_placeholders",
        "repeat_prompt",
        "english_lower",
        "english_capital",
    ):
        same = [check for check in found if kind in check]
        if len(same) > 1:
            unsure |= set(same)
    if {_ifeval("change_case:english_lowercase"), _ifeval("change_case:english_capital")} & set(found):
        unsure.add("language:en")
    languages = [check for check in found if check.startswith("language:")]
    unsure |= set(languages) if len(languages) > 1 else set()
    lacking = {check.removeprefix("lacks:").lower() for check in found if check.startswith("lacks:")}
    unsure |= {
        check
        for check in found
        if check.startswith("contains:") and check.removeprefix("contains:").lower() in lacking
    }
    return [check for check in found if check not in unsure]


def _meet(checks: list[str]) -> bool:
    lows, highs = [], []
    for check in checks:
        _, op, n, m = _COUNT.fullmatch(check).groups()  # type: ignore[union-attr]
        if op != "<=":
            lows.append(int(n))
        if op != ">=":
            highs.append(int(m or n))
    return len(lows) <= 1 and len(highs) <= 1 and (not lows or not highs or lows[0] <= highs[0])


@dataclass(frozen=True)
class Auto:
    """`auto`: what the prompt itself demands, as far as rules find it.

    A chain puts the derived checks in its place. Elsewhere, as in a group or a reward, it runs them itself.
    """

    name: str = "auto"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Pass if all derived checks pass."""
        from redraft.verify.groups import AllOf

        if parts := derived(prompt):
            return await AllOf(parts).check(answer, prompt)
        return passed("The prompt demands nothing that a rule finds.")


def derived(prompt: Prompt) -> tuple[Check, ...]:
    """Return the checks of a prompt: of its instruction, or of the last message of the user.

    Raises:
        MissingExtra: One of them needs a package that is not installed.
    """
    from redraft.verify.parse import parse_check

    text = prompt.text if prompt.messages else prompt.instruction
    return tuple(map(parse_check, checks_in(text)))


def without_auto(checks: Iterable[Check], prompt: Prompt) -> tuple[Check, ...]:
    """Return checks and, if `auto` is among them, those that the prompt demands in its place."""
    checks = tuple(checks)
    given = {check.name for check in checks}
    new = (
        [part for part in derived(prompt) if part.name not in given]
        if any(isinstance(check, Auto) for check in checks)
        else []
    )
    return (*(check for check in checks if not isinstance(check, Auto)), *new)
