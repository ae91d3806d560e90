"""Define what counts as a word or phrase in a text, for checks, steering and messages.

A word is a run of letters, combining marks and digits. Anything else separates words: an apostrophe ("Tom's",
"l'amour", "Istanbul'da"), a colon, an underscore, a dot. But a negation such as "can't" is one word, as is a
number with separators (3.14). In scripts without spaces, a phrase is found anywhere, but a run of katakana is
one word. Korean words may have particles. An inflected form is another word.
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
# Combining marks change a letter ("café"), but enclosing marks do not.
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{Nd}}\p{{Nl}}]--[\u20d0-\u20ff{_WIDE}{_KATAKANA}{_HANGUL}]]"
_CLITICS = frozenset(["s", "t", "d", "m", "ll", "re", "ve"])  # not separate words after an apostrophe
_PARTICLES = (
    "의 에 에서 에게 에게서 에는 에도 한테 께 께서 도 만 까지 부터 마다 조차 마저 밖에 뿐 처럼 보다 같이 "
    "만큼 대로 들 씨 님 하고 이다 입니다"
)
_AFTER_CONSONANT = "이 은 을 과 으로 으로서 으로써 이랑 아 이나 이라 이라고 이라는 이란 이며 이고 이에요"
_AFTER_VOWEL = "가 는 를 와 로 로서 로써 랑 야 라고 라는 란 예요 였다"
_SECOND = "은 는 이 가 을 를 도 만 의 에 에서 에게 께서 과 와 로 으로 까지 부터 요"


def _kind(char: str) -> str:
    for kind, chars in (("wide", _WIDE), ("katakana", _KATAKANA), ("hangul", _HANGUL)):
        if regex.match(f"[{chars}]", char):
            return kind
    return "digit" if char in "0123456789" else "letter" if regex.match(rf"(?V1){_LETTER}", char) else ""


def _particles(last: str) -> str:
    final = (ord(last) - 0xAC00) % 28  # 0 is a vowel, and 8 is ㄹ
    first = f"{_PARTICLES} {_AFTER_CONSONANT if final else _AFTER_VOWEL}{' 로' if final == 8 else ''}".split()
    return f"(({'|'.join(first)})({'|'.join(_SECOND.split())})?)?"


BEGINS, ENDS = r"\A\s*[*_]*{}", r"{}[*_]*\s*\Z"
"""Patterns for a phrase at the start, and at the end, of a text."""


@lru_cache(maxsize=1024)
def pattern_for(
    phrase: str, *, part: bool = False, around: str = "{}", wanted: bool = False
) -> regex.Pattern[str]:
    """Compile a pattern that finds a phrase in any case.

    Texts must be in the phrase's Unicode normal form, with `'` for apostrophes. Markdown emphasis is allowed.
    With `part`, a word may contain the phrase. With `wanted`, a URL is found only whole, in the same case.
    """
    phrase = phrase.replace("’", "'")
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
    if wanted and not part and regex.match(r"(?i)(?:https?://|www\.)\S+\Z", phrase):
        inner = rf"(?-i:{inner}/?(?!_*[^\W_]|[/#&=%@~+-]|[.,:;!?]+\w))"
    pattern = f"(?V1)(?if){around.format(inner)}"
    return regex.compile(pattern, cache_pattern=False)  # regex's own cache draws from the user's `random`
