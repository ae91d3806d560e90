"""Split a text into words, sentences, characters and paragraphs, by rules, so that a count can be explained.

Words follow Unicode's word boundaries (UAX 29): `can't` is one word, `3.14` is one word, `well-known` is two
words, and each Chinese character or kana is one word. Punctuation and emoji are not words. In scripts without
boundaries, such as Thai, each letter counts as a word.
"""

from __future__ import annotations

from itertools import pairwise

import regex

_WORD = regex.compile(r"(?w)\b_*[\p{L}\p{N}].*?\b", regex.DOTALL)
_CHARACTER = regex.compile(r"\X")
_SMALL = regex.compile(r"\P{L}*+\p{Ll}++(?!\p{L})")  # but not `iPhone`
_FLAG = regex.compile(r"[\U0001F1E6-\U0001F1FF]{2}")  # a pair is one flag; \X takes quadratic time over many
_BLANK_LINE = regex.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_LIST_MARK = regex.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_HEADING = regex.compile(r"\s*#{1,6}\s")
_FENCE = regex.compile(r"\s*(?:```|~~~)")
_WIDE_STOPS = "。！？｡"
_CLOSERS = r"""["'”’»)\]*_」』）】]"""
_STOP = regex.compile(
    rf"(?P<wide>[{_WIDE_STOPS}]+{_CLOSERS}*+)|(?<![.!?…])(?P<stop>[.!?…]++)(?P<close>{_CLOSERS}*+)(?=\s+(?P<next>\S))"
)
_OPENERS = "\"'“‘«(["
_LONGEST = 40  # Characters around a stop that matter: abbreviations and first words are shorter.


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A full stop after these never ends a sentence.
_TITLES = _listed("mr mrs ms dr prof gen col sgt capt lt rev hon gov sen vs cf approx ca")
# After these, a full stop ends no sentence if a number follows: `No. 5`, unlike `The answer is no. Go on.`
_NUMBERED = _listed("no nos fig figs vol eq eqs sec ch p pp jan feb mar apr jun jul aug sep sept oct nov dec")
# After these, an initial (`J.`) or dotted letters (`U.S.`), a stop ends a sentence only before `_STARTERS`.
_LOOSE = _listed("etc al st jr sr inc ltd co corp ph.d")
_DOTTED = regex.compile(r"(?:\p{L}\.)*\p{L}")
_STARTERS = _listed(
    "the a an this that these those he she it we they i you there here in on at but and so however if when"
)


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return _WORD.findall(text.replace("\u202f", " "))  # a narrow space, at which UAX 29 would join words


def count_words(text: str) -> int:
    """Count the words of a text."""
    return len(words(text))


def count_characters(text: str) -> int:
    """Count grapheme clusters (an emoji of several code points is one), without space around the text."""
    text = text.strip()
    return len(text) if text.isascii() and "\r" not in text else len(_CHARACTER.findall(_FLAG.sub("x", text)))


def paragraphs(text: str) -> list[str]:
    """Return the blocks of a text between blank lines."""
    return [part.strip() for part in _BLANK_LINE.split(unix(text)) if part.strip()]


def sentences(text: str) -> list[str]:
    """Return the sentences of a text.

    A sentence has a word. A sentence ends at `.`, `!`, `?` or `…` before a space, at `。`, `！` or `？`, at a
    blank line, and at the end of a heading or list item, but seldom after `Dr.` or before a lowercase letter.
    """
    found, small = list[str](), _SMALL.match(text) is not None
    for block in _blocks(unix(text)):
        ends = [match.end() for match in _STOP.finditer(block) if _is_end(block, match, small=small)]
        found += [block[start:end].strip() for start, end in pairwise([0, *ends, len(block)])]
    return [piece for piece in found if _WORD.search(piece)]


def settled(text: str) -> str:
    """Return a streaming text up to the last complete word."""
    return text[: max(map(text.rfind, " \n\t。！？｡")) + 1]


def line_of(text: str, position: int) -> int:
    """Return the line number, from 1, of a position in a text."""
    return text.count("\n", 0, position) + 1


def unix(text: str) -> str:
    """Return a text with all line breaks as line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _blocks(text: str) -> list[str]:
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        heading = _HEADING.match(line)
        mark = _LIST_MARK.match(line)
        if heading or mark or not line.strip() or _FENCE.match(line):
            blocks.append([])
        blocks[-1].append(line[mark.end() :] if mark else line)
        if heading or not line.strip():
            blocks.append([])
    return ["\n".join(block).strip() for block in blocks if block]


def _is_end(block: str, match: regex.Match[str], *, small: bool) -> bool:
    if match["wide"]:
        return True
    at = match.start("next")
    follows = block[at : at + _LONGEST].split()[0].lstrip(_OPENERS)
    # `small`: the text begins with a small letter, so sentences may, too.
    if not small and follows[:1].islower() and (match["close"] or match["stop"] not in {"!", "?"}):
        return False
    before = block[max(0, match.start() - _LONGEST) : match.start()].split()
    word = before[-1].strip(_OPENERS + ")*_") if before else ""
    return match["stop"] != "." or not _goes_on(word, follows)


def _goes_on(word: str, follows: str) -> bool:
    lower = word.lower()
    if lower in _TITLES or lower in {"e.g", "i.e"}:
        return True
    if lower in _NUMBERED:
        return follows[:1].isdigit()
    initials = _DOTTED.fullmatch(word) and (len(word) > 1 or word.isupper()) and word != "I"
    first = words(follows.lower())[:1]
    return bool(lower in _LOOSE or initials) and not (first and first[0] in _STARTERS)
