r"""Checks that compare an answer's result (a number, a letter or a formula) with the right result.

Text after the beginning of another question is ignored, and so are results that the answer retracts or
denies. The result follows the last `####`, `\boxed{…}` or "the answer is". Otherwise the result is the last
number or formula, or the only remaining letter. An answer that offers two results ("42 or 43") has no result.
Units, number words and sums without = are not read. A check's name has the right result; messages do not.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar, Self

import regex

from redraft.chain import Prompt
from redraft.chain.read.tasks import boxed
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.maths import canonical, same
from redraft.checks.pattern import readable
from redraft.errors import CheckSyntaxError

Value = Decimal | Fraction  # a number as written: a fraction stays a fraction


class Percent(Decimal):
    """A number before `%`. 25% equals 25 and 0.25."""


_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "萬": 4, "亿": 8, "億": 8}
_CASED = r"\p{Lu}\p{Ll}"
# A minus sign counts unless a letter, digit or closing bracket precedes it. An exponent has at most four
# digits, so that comparing numbers stays cheap.
_NUMBER = rf"""
    (?P<sign>(?<![{_CASED}\p{{N}})\]}}%])[-+−–])?+ (?:[$€£¥₹]\s?+(?P<inner>[-−])?+)?+
    (?:
        (?<![0-9/.,])(?:(?P<whole>[0-9]{{1,15}}+)[ ])?(?P<over>[0-9]{{1,15}}+)[ ]?/[ ]?
        (?P<under>(?!0++(?![0-9]))[0-9]{{1,15}}+)(?![ ]?/|[.,]?[0-9])
    |
        (?P<digits>(?:[0-9]{{1,3}}(?:,[0-9]{{3}})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++)
        (?P<exponent>[eE][-+−]?+[0-9]{{1,4}}(?![{_CASED}\p{{N}}]))?+
        (?:[ ]?(?P<scale>{"|".join(_SCALES)})(?![{_CASED}]))?+
    ) (?P<percent>[ ]?\\?%|[ ]per[ ]?cent\b)?+
"""
# Not numbers, despite their digits: a reference (step 3, [2]), a term (x + 3), a name (x2, GPT-4), a date, a
# time, a ratio, an address. Only scripts with capitals join digits to a word: 答案是42 has a number.
_NAME = rf"""
    \b(?i:step|figure|problem|question)[ ][0-9]++(?:\.[0-9]++)*+ | \[[0-9]++\]
    | (?<![{_CASED}\p{{N}}])[a-z](?:[ ][-+−*/][ ]|[+*/])[0-9]++
    | [{_CASED}_](?:[{_CASED}\p{{M}}_]|-?[0-9]|(?<=[0-9])\.[0-9])*+
    | (?<![0-9.])[0-9]++(?:(?::[0-9]++)++|(?P<by>[-./])[0-9]++(?:(?P=by)[0-9]++)++)(?![0-9])
"""
_SCAN = regex.compile(f"{_NAME}|{_NUMBER}", regex.VERBOSE)
_WHOLE = regex.compile(_NUMBER, regex.VERBOSE)

_GROUPED = regex.compile(
    r"(?<![0-9.,])(?:[0-9]{1,3}(?:[ '’_][0-9]{3})++|[0-9]{1,3}(?:\.[0-9]{3})++(?=,[0-9])"
    r"|[0-9]{1,3}(?:\.[0-9]{3}){2,}+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?![0-9])"
)
"""Matches grouped digits in forms other than 1,234, such as 12 345, 1.234,5 or 2,50,000."""
_TEN = r"10\^(?:\{([-−]?[0-9]{1,3})\}|([-−]?[0-9]{1,3}))"
_PLAIN: tuple[tuple[str, str], ...] = (
    (r"(?<=[0-9])(?:\{,\}|,?\\[,!]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))", ","),
    (r"(?<![0-9.,(\[{])(0(?=,)|[0-9]++(?=,[0-9]{1,2}(?![0-9]))),([0-9]++)(?!,?[0-9])", r"\1.\2"),
    (r"([0-9])?+\\[dtc]?frac[ ]?\{?([0-9]{1,15})\}?[ ]?\{?([0-9]{1,15})\}?", r"\1 \2/\3"),
    (rf"(?<=[0-9])[ ]?(?:×|x|\*|·|\\times|\\cdot)[ ]?{_TEN}", r"e\1\2"),
    (rf"(?<![0-9.,]){_TEN}", r"1e\1\2"),
    (r"(?<=[\p{L}})])\^(?:\{[0-9]+\}|[0-9]+)", ""),
    (r"(?<=\b[a-z]\s?=\s?)([0-9]++)\s?(?:±|\\pm)\s?([0-9]++)(?!\s?[\p{L}%°]|[.,][0-9])", r"\1+\2 or \1-\2"),
    (r"(?<=[0-9])\s?(?:±|\\pm)\s?[0-9.,]*[0-9]", ""),
    (r"(?<![\w)}\]]\s?)(?:±|\\pm)\s?([0-9]++)(?!\s?[\p{L}%°]|[.,][0-9])", r"\1 or -\1"),
    (r"(?<![0-9)][ ])\bminus[ ](?=[$€£]?[0-9])", "-"),
)
"""Patterns of other spellings of numbers, and of powers of units, each with a replacement."""

_ODD = regex.compile(r"(?P<power>[²³¹⁰⁴-⁹]+)|[ ]?(?P<part>[¼½¾⅐-⅞])|[\uff01-\uff5e]|(?![0-9])\p{Nd}")


def usual(text: str) -> str:
    """Return a text with ordinary digits: `４２` and `٤٢` are 42, `2½` is 2 1/2, `10²` is 10^{2}."""
    return _ODD.sub(_usual, readable(text))


def _usual(match: regex.Match[str]) -> str:
    made = unicodedata.normalize("NFKC", match[0]).replace("⁄", "/").strip()
    if match["power"] or match["part"]:
        return f"^{{{made}}}" if match["power"] else f" {made}"
    return str(int(made)) if made.isdecimal() else made


def plain(text: str) -> str:
    """Return a text with plain numbers: `1{,}234` becomes `1,234`, and `1.234,5` becomes `1234.5`."""
    text = _GROUPED.sub(lambda match: regex.sub(r"\D", "", match[0]), text)
    for pattern, new in _PLAIN:
        text = regex.sub(pattern, new, text)
    return text


def _value(match: regex.Match[str]) -> Value:
    sign = -1 if (match["sign"] or "+") != "+" or match["inner"] is not None else 1
    if match["over"]:
        part = Fraction(int(match["over"]), int(match["under"]))
        return sign * (part + (int(match["whole"] or 0) if part < 1 else 0))
    digits = match["digits"].replace(",", "") + (match["exponent"] or "").replace("−", "-")
    value = (Percent if match["percent"] else Decimal)("-" * (sign < 0) + digits)
    return value.scaleb(_SCALES[match["scale"]]) if match["scale"] else value


_QUESTION = (
    r"(?i:(?:next\s)?(?:q|question|problem|exercise|example|instruction|human|user))|问题|問題|質問|문제"
)
_NEXT = regex.compile(
    rf"<\|\w+\|>|</s>|\n[ #*]*+(?:{_QUESTION})(?:\s?\d++[*]*+\n|\s?\d*+[*\s]*+:)"
    r"|(?=\n)(?<=(?:####|\\boxed|answer).*)\n[ ]*+\n(?=[^\d\n]*+\d[^?\n]*+\?)"
)
"""Matches the beginning of the next question, in a text that continues after the answer."""
_MARKS = 20  # most marks to look at, from the end
_SHORT = 80  # most characters of a bare result
_ANSWER = r"(?i:(?<!/)\banswer\b|\b(?:antwort|réponse|respuesta|risposta|ответ)\b|答案|答え|정답)"
_ANSWER_IS = regex.compile(
    rf"(?i){_ANSWER}[*_\"' ]*+(?:(?:(?:must|should|would|will)\s+be|is|ist|lautet|est|es|è)\b"
    r"|[:=>—是为為は은])(?:[\s:*_\"'`]|so|then|therefore)*+|^[ #*]*+(?:final\s)?answer[ *]*+\n\s*+|^A:\s"
    r"|\A(?=[\s*$]*+[-\d.,/]++[\s*$.%]*?\n\s*\n)",  # a first line that is a number
    regex.MULTILINE,
)
_SENTENCE_END = regex.compile(r"(?<!\\)[.!?](?=\s|$)|[。！？]|\n|$")
_CORRECTION = regex.compile(
    r"(?i)(?<=[.!?…]\s{1,4}|\n|^)[\s*_]{0,4}(?:(?:but|oh|no|hmm+)\b,?\s)?"
    r"(?:wait\b|actually\b|hold\son\b|no[,.!—]|hmm+\b|oops\b|sorry\b|correction\b|i\smade\sa\b|i\swas\swrong\b|"
    r"that(?:'s|\sis|\swas)\s(?:wrong|incorrect|not\sright)\b|let\sme\s(?:re|check|double|correct)\w*)"
    r"|(?<=[\w$%}]\s?[,;(—–-]\s?)(?:(?:no|oh),?\swait\b|wait,)"
)
_AFFIRMED = regex.compile(
    r"(?i)\b(?:(?:is|was|it's|looks)\s(?:indeed\s)?(?:correct|right|consistent)|yes|indeed|confirm\w*|"
    r"checks\sout|matches|holds)\b|[✓✔]|[.!:]\s(?:correct|right)\b"
)


def _readings(answer: str) -> Iterator[str]:
    answer = usual(answer).strip()
    end = _NEXT.search(answer)
    own = answer[: end.start()] if end else answer
    yield from dict.fromkeys([_last_word(own), own, answer])


def _last_word(answer: str) -> str:
    for match in reversed(list(_CORRECTION.finditer(answer))[-_MARKS:]):
        rest = answer[match.end() :].lstrip(" ,:—")
        if any(_marked(rest)) or not _AFFIRMED.search(rest):
            return rest
        answer = answer[: match.start()]
    return answer


_BOXES = regex.compile(r"(\\boxed\{(?:[^{}]|\{[^{}]*+\})*+)\}\s*\$?\s*(,?\s*(?:and|or)|,)\s*\$?\s*\\boxed\{")


def _box(text: str) -> str | None:
    return boxed(_BOXES.sub(r"\1 \2 ", text))  # `\boxed{6} or \boxed{7}` is one statement


def _marked(answer: str) -> Iterator[tuple[str, str]]:
    if lines := regex.findall(r"####[ ]*(?!\d++[.)][ ]|[Ss]tep)(.*)", answer):
        yield lines[-1].strip(), ""
    if found := _box(answer):
        yield found, ""
    for match in reversed(list(_ANSWER_IS.finditer(answer))[-_MARKS:]):
        end = _SENTENCE_END.search(answer, match.end())
        stop = end.start() if end else len(answer)
        yield answer[match.end() : stop].strip(), answer[stop:]


_ASIDE = regex.compile(r"(?<=[\w$%*}.]\s{1,3}|\n|^)\((?=[^()\n]*?(?:[\p{L}*×·=+/]|\d\s?[-−]))[^()\n]*+\)")
"""Matches a remark in parentheses."""
_NOT = (
    r"(?:\b(?:not|never|cannot|instead\sof|rather\sthan|out\sof|neither|none\sof|rule\sout|eliminate)\b"
    r"|n['’]t\b|≠|\\neq?\b|不是)"
)
_DENIED = regex.compile(
    rf"(?i){_NOT}\s*(?:be\s|equal\s(?:to\s)?)?[$*\\]*[-−]?\d(?:[\d,.]*\d)?(?:\s(?:or|nor)\s\d(?:[\d,.]*\d)?)*+"
)
_NOISE = regex.compile(r"\b\d+(?:st|nd|rd|th)\b|^[ ]*\d+[.)][ ]", regex.MULTILINE)
"""Matches numbers that are not results: ordinals, and numbers of list items."""
_LEAD = regex.compile(
    r"(?i)(?:[^\p{L}\d.]|\.(?=\d)|\\[a-z]+|\b[a-z]\s?=|\b(?:about|approximately|exactly|only|us|rs\.|but)(?=[\s$]))*+(?=[\d.])"
)
_STEP = regex.compile(
    r"[\s$€£*_(){}\[\]\\!%]*?(?:[-+−–—*/×·÷^=≈xX]|times|cdot|div|approx)[\s$€£*_(){}\[\]\\]*|\("
)
_EITHER = r"(?:\s?[\p{L}%°]++)??,?\s*(?:(?:or|oder|ou)\s(?:\p{L}+\s)?|and\s|或者?)[$€£\\*]*"
_BEFORE = regex.compile(_EITHER)
_BEHIND = regex.compile(rf"{_EITHER}|(?:\s?\p{{L}}++)?\sto\s|[\s,;]+[$€£\\*]*")
"""Match the text between two offered results: `_BEHIND` after "the answer is", `_BEFORE` in other texts."""
_Run = list[regex.Match[str]]
"""Numbers that are joined by signs, such as `5 + 13 = 18`."""


def _runs(text: str) -> list[_Run]:
    runs: list[_Run] = []
    for match in _SCAN.finditer(text):
        if match["digits"] or match["over"]:
            if runs and _STEP.fullmatch(text, runs[-1][-1].end(), match.start()):
                runs[-1].append(match)
            else:
                runs.append([match])
    return runs


def _joins(between: regex.Pattern[str], one: _Run, other: _Run) -> bool:
    return bool(between.fullmatch(one[0].string, one[-1].end(), other[0].start()))


def _results(run: _Run) -> list[Value]:
    text, sides = run[0].string, [[run[0]]]
    for last, match in pairwise(run):
        gap = text[last.end() : match.start()]
        if regex.search("[=≈]|approx", gap):
            sides.append([match])
        else:
            sides[-1].append(match)
        if len(run) == 2 and regex.fullmatch("[–—-]", gap) and _value(last) < _value(match):
            return [_value(last), _value(match)]
    for side in reversed(sides):
        if len(side) == 1:
            return [_value(side[0])]
    computed = canonical(regex.sub("[xX]", "*", text[side[0].start() : side[-1].end()]))
    if not isinstance(computed, Fraction):
        return [_value(run[-1])]
    return [computed] if any("^" in text[one.end() : two.start()] for one, two in pairwise(run)) else []


def final_number(answer: str) -> Value | None:
    """Return the final number of an answer; None if the answer offers no number, or several numbers."""
    found = _offered(answer)
    return found[0] if len(found) == 1 else None


def _offered(answer: str) -> list[Value]:
    return [*dict.fromkeys(next(filter(None, map(_numbers_in, _readings(answer))), ()))]


def _numbers_in(answer: str) -> list[Value]:
    text, rest = _DENIED.sub("", _ASIDE.sub("", answer)), ""
    for statement, behind in _marked(text):
        if found := _first(statement):
            return found
        rest = rest or statement + behind
    return _last(plain(rest or text)) or ([] if rest else _last(plain(_DENIED.sub("", answer))))


def _first(statement: str) -> list[Value]:
    value = canonical(statement.strip(" *_"))
    if isinstance(value, Fraction) and "\\" in plain(statement):
        return [value]
    text = plain(statement)
    if not _LEAD.match(text):
        return []
    runs = _runs(text)
    found = _results(runs[0]) if runs else []
    for one, other in pairwise(runs):
        if not _joins(_BEHIND, one, other):
            break
        found += _results(other)
    return found


def _last(text: str) -> list[Value]:
    for part in (_NOISE.sub("", text), text):
        every = _runs(part)
        if runs := [run for run in every if _results(run)]:
            end = runs[-1][-1].end()
            if runs[-1] is not every[-1] and regex.search(r"[.!?]\s|\n", part[end : every[-1][0].start()]):
                return []  # a later sentence has a sum, which is not computed
            also = _results(runs[-2]) if runs[1:] and _joins(_BEFORE, *runs[-2:]) else []
            return also + _results(runs[-1])
    return []


_EDGE, _END = rf"(?<![{_CASED}\p{{N}}_'’-])", rf"(?![{_CASED}\p{{N}}_'’])"
_LETTER = rf"{_EDGE}(?P<letter>[B-Z]|A(?!\s+(?!(?:because|since|as|and|or|with|is|are)\b)\p{{Ll}})){_END}"
_SMALL = rf"(?P<letter>[a-z])(?=[\s)\].,;:*_\"”'’}}$]*(?:$|\n|[.,;)\]])){_END}"
_OPENS = r"[\s*_(\[\"“'‘`$\\{<>]*+"
_ONE = rf"[(\[]?[A-Z][)\]]?{_END}"
_AND = r"\s*+(?:,\s*+(?:(?:and|or|nor)\b\s*+)?|(?:and|or|nor|to)\b\s*+|[&/和与或]\s*+)"
_OFFER = regex.compile(rf"{_EDGE}{_ONE}(?:{_AND}{_ONE}(?!\s+is\b))*+")
_LIST = rf"{_EDGE}{_ONE}(?:{_AND}{_ONE}){{0,9}}"
_REFUSED = regex.compile(
    rf"(?i:{_NOT}\s*(?:be\s|both\s|option\s)?){_LIST}|{_LIST}\s(?i:(?:is|are|was|were)(?:\s(?:all|both|also|clearly))?"
    r"(?:n['’]t|\s(?:not|wrong|incorrect|false|too|impossible|off|out)\b))"
)
"""Matches letters that a text rejects, as in "not B" or "B is wrong"."""
_BE = r"(?i:is|are|(?:must|should|would|will)\s+be)\b"
_CHOICE = (
    rf"(?:{_ANSWER}|(?i:\b(?:ans|option|choice|one)\b)|选项)[\s*_\"']*+(?:{_BE}|[:=>是为は은])?+{_OPENS}"
)
_SO = r"(?i:\b(?:choose|pick|select|go\s+with|therefore|thus|hence|so|only|it\s+is|it['’]s)\b,?|选)"
_RIGHT = r"(?:the\s+)?(?:only\s+)?(?i:correct|right|best|true|answer|one)\b"
_ALONE = regex.compile(rf"{_LETTER}(?!\s+is\s+an?\b)")
_CHOSEN = (
    regex.compile(
        rf"{_CHOICE}(?:(?i:option|choice|letter)\b)?+{_OPENS}(?:{_LETTER}|(?<=[:=>(\[]\s*|\bis\s){_SMALL})"
    ),
    regex.compile(rf"{_LETTER}[)*_.\]]*+\s*+(?:{_BE}|:)[\s*_]*+{_RIGHT}"),
    regex.compile(rf"(?i:option|choice|letter)\s[(\[]?(?P<letter>[a-z])[)\]]?\s{_BE}\s{_RIGHT}"),
    regex.compile(rf"{_SO}{_OPENS}{_LETTER}"),
    regex.compile(rf"^[^\w\n]*+(?:{_LETTER}|{_SMALL})[^\w\n]*$", regex.MULTILINE),
    regex.compile(rf"\A[^\w\n]*+(?:{_LETTER}|(?P<letter>[a-z]){_END})(?=[.):])"),
    regex.compile(rf"{_LETTER}\)"),
)
"""Patterns of a chosen letter, clearest first. The patterns do not backtrack, so no text takes cubic time."""


def final_letter(answer: str, letters: str = "ABCDE") -> str | None:
    """Return the letter that an answer chooses; None if no letter, or several letters, are chosen."""
    for text in _readings(answer):
        if found := _letters_in(text, letters):
            return found.pop() if len(found) == 1 else None
    return None


def _letters_in(answer: str, letters: str) -> set[str]:
    text = _REFUSED.sub(" ", answer)
    for marked in [_box(text), *regex.findall(r"####\s*(.+)", text)[-1:]]:
        found = regex.match(r"(?:\\[a-z]+|[^\p{L}\p{N}])*+(\p{L})(?![\p{L}\p{N}])", marked or "")
        if found and found[1].upper() in letters:
            return {found[1].upper()}
    for pattern in _CHOSEN:
        said = [match for match in pattern.finditer(text) if match["letter"].upper() in letters]
        if said:
            start, letter = said[-1].start("letter"), said[-1]["letter"].upper()
            offers = (match for match in _OFFER.finditer(text) if match.start() <= start < match.end())
            return {letter, *(one for match in offers for one in match[0] if one in letters)}
    return {match[0] for match in _ALONE.finditer(text) if match[0] in letters}


_INLINE = regex.compile(
    r"\$\$?([^$]*[^$\s][^$]*)\$\$?|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]", regex.DOTALL
)
_CLAUSE = regex.compile(r",?\s(?:because|since|as|so|which|where|when)\s|\s\(|≈|\\approx|[.。]$")


def final_maths(answer: str) -> str | None:
    """Return an answer's result as written, or None if there is none. Commas join several results."""
    text = _DENIED.sub("", next(_readings(answer))).strip(" *\n")
    for statement, _ in _marked(text):
        if statement:
            return _formula(statement) or (statement if _is_value(statement) else _CLAUSE.split(statement)[0])
    found = _formula(text) or (text if _is_value(text) or " " not in text else None)
    found = found or next(iter(map(str, _last(plain(text)))), None)
    return found or (text if len(text) <= _SHORT and "\n" not in text else None) or None


def _is_value(text: str) -> bool:
    words = regex.search(r"(?<!\\)\b(?!or\b|and\b)\p{L}{2,}\s", text)
    return bool(text) and not words and not isinstance(canonical(text), str)


def _formula(text: str) -> str | None:
    groups: list[list[regex.Match[str]]] = []
    for match in _INLINE.finditer(text):
        gap = text[groups[-1][-1].end() : match.start()] if groups else "-"
        if regex.fullmatch(r"\s*(?:,?\s*(?:and|or)|[,;])\s*", gap):
            groups[-1].append(match)
        else:
            groups.append([match])
    if not groups or _last(plain(text[groups[-1][-1].end() :])):
        return None
    begins = not text[: groups[0][0].start()].strip(" *_:")
    written = [match.group(match.lastindex or 0) for match in groups[0 if begins else -1]]
    return ", ".join(regex.split(r"\\approx|≈", each)[0].strip() for each in written)


_HINT = "Write number=42, or number=3.14~0.01 with a tolerance."


class _Final(ABC):
    """A check of an answer's final result. The name has the gold answer, so no model may see the name."""

    reference: Any
    kind: ClassVar[str]
    called: ClassVar[str] = "final answer"
    missing: ClassVar[str]
    demand: ClassVar[str]
    longest: ClassVar[int] = 200

    @property
    def name(self) -> str:
        return f"final {self.kind} {self.reference}"

    @abstractmethod
    def read(self, answer: str) -> Any:
        """Return the answer's result, or None if there is none."""

    def is_right(self, found: Any) -> bool:
        return bool(found == self.reference)

    def said(self, answer: str) -> Hashable:
        found: Hashable = self.read(answer)
        return found

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        if (found := self.read(answer)) is None:
            return failed(self.missing)
        read = str(found)[: self.longest] + "…" * (len(str(found)) > self.longest)
        told = f"The {self.called} is read as {read}."
        return passed(told) if self.is_right(found) else failed(f"{told} It is not right. Work it out again.")


@dataclass(frozen=True)
class Number(_Final):
    """`number=3.14~0.01`: the final answer is this number, within a tolerance."""

    reference: Value
    tolerance: Value = Decimal(0)
    missing = "The answer gives no number as its result. Write the result as a number, at the end."
    demand = "End the answer with its result, as a number in digits."
    longest = 40

    @classmethod
    def of(cls, written: str) -> Self:
        """Parse `42`, `3.14~0.01` or `3.14±0.01`."""
        reference, mark, tolerance = written.replace("±", "~").partition("~")
        check = cls(_number_of(reference, written), _number_of(tolerance, written) if mark else Decimal(0))
        if check.tolerance < 0:
            raise CheckSyntaxError(f"number={written}: a tolerance cannot be negative.", hint=_HINT)
        return check

    @property
    def name(self) -> str:
        """The check as written: `number=42`. No model may see this name."""
        return f"number={self.reference}" + (f"~{self.tolerance}" if self.tolerance else "")

    def read(self, answer: str) -> Value | None:
        """Return the final number."""
        return final_number(answer)

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Pass if the final number is right. An answer that offers several numbers fails."""
        if len(offered := _offered(answer)) > 1:
            found = " and ".join(f"{each!s:.{self.longest}}" for each in offered[:3])
            return failed(f"The answer offers several numbers, {found}. Give one, at the end.")
        return super().check(answer, prompt)

    def is_right(self, found: Value) -> bool:
        """Return whether a number equals the reference within the tolerance."""
        meant = {found, found / 100} if isinstance(found, Percent) else {found}
        return any(abs(Fraction(each) - Fraction(self.reference)) <= self.tolerance for each in meant)


def _number_of(text: str, written: str) -> Value:
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise CheckSyntaxError(f"number={written}: {text.strip()!r} is not a number.", hint=_HINT)
    return _value(match)


@dataclass(frozen=True)
class FinalLetter(_Final):
    """A check that the final answer is the letter `reference`, out of `letters`."""

    reference: str
    letters: str = "ABCDE"
    kind = "letter"
    called = "chosen option"
    missing = "The answer chooses no option. End with the letter of one."
    demand = "End the answer with the letter of the right option."

    def read(self, answer: str) -> str | None:
        """Return the chosen letter."""
        return final_letter(answer, self.letters)


@dataclass(frozen=True)
class FinalMaths(_Final):
    """A check that the final answer equals the gold answer, in any usual notation (`maths.same`)."""

    reference: str
    kind = "answer"
    missing = r"The answer has no result. Put the result in \boxed{}."
    demand = r"Put the final answer in \boxed{}."

    @classmethod
    def of(cls, gold: str) -> Self:
        """Make the check for a gold answer."""
        if not gold.strip():
            raise CheckSyntaxError("there is no gold answer.")
        return cls(gold)

    def read(self, answer: str) -> str | None:
        """Return the answer's result as written."""
        return final_maths(answer)

    def is_right(self, found: str) -> bool:
        """Return whether a result is the same as the gold answer."""
        return same(found, self.reference)

    def said(self, answer: str) -> Hashable:
        """Return the result in canonical form."""
        found = final_maths(answer)
        return None if found is None else canonical(found)
