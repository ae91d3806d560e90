"""What the rules cannot read: prompts in other languages, and prompts for programs."""

from __future__ import annotations

import re

_LANGUAGE = (
    r"(?:python|java(?:script)?|typescript|c\+\+|c#|sql|mongodb|bash|shell|html|css|php|ruby|rust|golang|kotlin"
    r"|excel|vba)"
)
_CODE = re.compile(
    r"\b(?:write|create|implement|generate|make|need|develop|design|convert|refactor|build|how (?:do|to))\b"
    rf"[^.?!\n]{{0,80}}\b(?:(?:in|using|with) {_LANGUAGE}"
    rf"|{_LANGUAGE} (?:\w+ )?(?:code|function|script|program|class|method|query|test)s?"
    r"|functions?|quer(?:y|ies)|unit tests?|arrays?|for loop|algorithm|dictionary with"
    r"|(?:script|program|class|method) (?:that|which|to))(?!\w)",
    re.IGNORECASE,
)


def asks_for_code(prompt: str) -> bool:
    """Return whether a prompt asks for a program: what it demands, the program has to do."""
    return _CODE.search(prompt) is not None


_ENGLISH = """
    the and to is are what how why who when where which with for write give you your please that this
    from my it describe explain list name make tell draft translate summarise summarize rewrite respond
    say should answer reply can could i do only
"""
_OTHERS = """
    der das und ist nicht ein eine einen mit für über bitte schreib schreibe gib mir wie ich du auf von
    zu den dem el la los las un una de del que es en con por para se mi cómo qué escribe dame sobre al
    lo su tres le les des et est une dans pour sur avec qui je tu il vous au aux ce cette pas écris
    donne moi comment bonjour gli di che è per non uno della come scrivi o um uma da em com não escreva
    como het een ik niet op dat schrijf og er på til med som det af jag är och att för ett skriv hvad
    vad hvordan nie jest się napisz ve bir bu için nasıl yaz bana ja ei kirjoita että napiš yang ini
    untuk dengan apa tulis tentang viết một bằng
"""
"""German, Romance, Dutch and Nordic, then Slavic, Turkish, Finnish and others."""
_COMMON, _FOREIGN = (frozenset(words.split()) for words in (_ENGLISH, _OTHERS))


def is_english(prompt: str) -> bool:
    """Return whether a prompt may be English, judged by its letters, its first word and its common words."""
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    if not words or words[0] in _COMMON - _FOREIGN:
        return True
    common, foreign = (sum(word in known for word in words) for known in (_COMMON, _FOREIGN))
    return common > 0 if not "".join(words).isascii() and common >= foreign else common >= foreign
