"""Where a text has a word or phrase: the one definition for checks, steering and messages.

A word is a run of letters, marks and digits. Anything else separates words: an apostrophe ("Tom's",
"l'amour", "Istanbul'da"), a colon, an underscore, a dot. But a negation such as "can't" is one word, as is a
number with its marks (3.14). Scripts without spaces have no boundaries: a phrase is found anywhere in them,
except that a run of katakana is one word. Korean words may have particles. Inflected words are other words.
"""

from __future__ import annotations

from functools import lru_cache

import regex

_WIDE = (  # Thai, Lao, Burmese, Khmer, Chinese, hiragana
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3021-\u30a0"
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_KATAKANA = "\u30a1-\u30ff"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb"
# Marks make another letter ("café"), but those that surround a letter do not.
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{Nd}}\p{{Nl}}]--[\u20d0-\u20ff{_WIDE}{_KATAKANA}{_HANGUL}]]"
# The same for grammars, in ranges: Unicode's classes are too much for the lexer. What another form of Unicode
# makes a letter counts as one.
_WITHIN = (
    r"A-Za-z0-9\u{aa}\u{ad}\u{b2}\u{b3}\u{b5}\u{b9}\u{ba}\u{bc}-\u{be}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{5bd}"
    r"\u{5bf}-\u{5f2}\u{5f5}-\u{60b}\u{60d}-\u{61a}\u{61c}-\u{61e}\u{620}-\u{6d3}\u{6d5}-\u{963}\u{966}-\u{dff}"
    r"\u{f00}-\u{fff}\u{10a0}-\u{10ff}\u{1200}-\u{177f}\u{1800}-\u{1fff}\u{200b}-\u{200f}\u{202a}-\u{202e}\u{2044}"
    r"\u{2060}-\u{209f}\u{20a8}\u{2100}-\u{211f}\u{2121}\u{2123}-\u{218f}\u{2460}-\u{24ff}\u{2c00}-\u{2dff}\u{2e2f}"
    r"\u{3100}-\u{3130}\u{318f}-\u{33ff}\u{a000}-\u{a95f}\u{a97d}-\u{abff}\u{fb00}-\u{ff00}\u{ff07}"
    r"\u{ff0e}-\u{ff19}\u{ff1b}\u{ff21}-\u{ffff}\u{10000}-\u{1efff}\u{1f100}-\u{1f1e5}\u{1f200}-\u{1f2ff}\u{1fbf0}-\u{1fbf9}"
    r"\u{e0000}-\u{e0fff}"
)
_CLITICS = frozenset(["s", "t", "d", "m", "ll", "re", "ve"])  # no words of their own behind an apostrophe
_PARTICLES = (
    "의 에 에서 에게 에게서 에는 에도 한테 께 께서 도 만 까지 부터 마다 조차 마저 밖에 뿐 처럼 보다 같이 "
    "만큼 대로 들 씨 님 하고 이다 입니다"
)
_AFTER_CONSONANT = "이 은 을 과 으로 으로서 으로써 이랑 아 이나 이라 이라고 이라는 이란 이며 이고 이에요"
_AFTER_VOWEL = "가 는 를 와 로 로서 로써 랑 야 라고 라는 란 예요 였다"
_SECOND = "은 는 이 가 을 를 도 만 의 에 에서 에게 께서 과 와 로 으로 까지 부터 요"

ANYTHING = "(?s:.*)"
SYLLABLES = _HANGUL + _KATAKANA


def _kind(char: str) -> str:
    """Return which rules a word's edge follows at a character; empty if it is no part of a word."""
    for kind, chars in (("wide", _WIDE), ("katakana", _KATAKANA), ("hangul", _HANGUL)):
        if regex.match(f"[{chars}]", char):
            return kind
    return "digit" if char in "0123456789" else "letter" if regex.match(rf"(?V1){_LETTER}", char) else ""


def _particles(last: str) -> str:
    """Return the pattern of what Korean adds to a word that ends with a syllable."""
    final = (ord(last) - 0xAC00) % 28  # 0 is a vowel, and 8 is ㄹ
    first = f"{_PARTICLES} {_AFTER_CONSONANT if final else _AFTER_VOWEL}{' 로' if final == 8 else ''}".split()
    return f"(({'|'.join(first)})({'|'.join(_SECOND.split())})?)?"


BEGINS, ENDS = r"\A\s*[*_]*{}", r"{}[*_]*\s*\Z"
"""Where a phrase may stand."""


@lru_cache(maxsize=1024)
def pattern_for(phrase: str, *, part: bool = False, around: str = "{}") -> regex.Pattern[str]:
    """Compile a phrase for texts in the same form of Unicode, whose apostrophes are `'`, ignoring case.

    Emphasis of Markdown may stand around its words. With `part`, it may be a part of a word.
    """
    words = phrase.split() or [phrase]
    inner = r"[*_]*\s+[*_]*".join(regex.escape(word, literal_spaces=True) for word in words)
    first, last, apart = words[0], words[-1], rf"(?<!(?!\p{{M}}){_LETTER}\p{{M}}*)"
    before = {
        "letter": apart + f"(?<!{_LETTER}')" * (first.casefold() in _CLITICS),
        "digit": rf"{apart}(?<![0-9][.,'])",
        "katakana": f"(?<![{_KATAKANA}])",
        "hangul": f"(?<![{_HANGUL}])",
    }
    after = {
        "letter": f"(?!{_LETTER})" + f"(?!'t(?!{_LETTER}))" * (last[-1] in "nN"),
        "digit": f"(?!{_LETTER})(?![.,'][0-9])",
        "katakana": f"(?![{_KATAKANA}])",
        "hangul": f"(?={_particles(last[-1])}(?![{_HANGUL}]))",
    }
    if not part:
        inner = before.get(_kind(first[0]), "") + inner + after.get(_kind(last[-1]), "")
    pattern = f"(?V1)(?if){around.format(inner)}"
    return regex.compile(pattern, cache_pattern=False)  # regex's own cache draws from the user's `random`


def around(phrase: str) -> tuple[str, str]:
    """Return the same for grammars: expressions of what stands before and after a phrase that counts."""
    first, *_, last = [*phrase.split(), *phrase.split()]
    apart, quote = f"({ANYTHING}[^{_WITHIN}])?", "['’]"
    before = {
        "letter": f"({apart}{quote}|{ANYTHING}[^{_WITHIN}'’])?" if first.casefold() in _CLITICS else apart,
        "digit": f"(({ANYTHING}[^0-9])?[.,'’]|{ANYTHING}[^{_WITHIN}.,'’])?",
        "katakana": f"({ANYTHING}[^{_KATAKANA}])?",
        "hangul": f"({ANYTHING}[^{_HANGUL}])?",
    }
    after = {
        "letter": f"([^{_WITHIN}]{ANYTHING})?",
        "digit": f"([^{_WITHIN}.,'’]{ANYTHING}|[.,'’]([^0-9]{ANYTHING})?)?",
        "katakana": f"([^{_KATAKANA}]{ANYTHING})?",
        "hangul": f"{_particles(last[-1])}([^{_HANGUL}]{ANYTHING})?",
    }
    return before.get(_kind(first[0]), ANYTHING), after.get(_kind(last[-1]), ANYTHING)
