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
    the and of to is are what how why who when where which with for write give you your please that this
    from my describe explain list name make tell draft should answer reply at no it can i me a an in on be do
"""
_OTHERS = """
    der die das und ist nicht ein eine einen mit für über bitte schreibe wie was ich du auf von zu im den dem
    el la los las un una de del que es en con por para y no se me mi cómo qué escribe sobre al lo su
    le les des du et est une dans pour sur avec qui je tu il vous au aux ce cette pas écris donne
    gli di che è per non uno della come scrivi o os as um uma do da em com não escreva como
    het een van en ik niet op te dat schrijf og er på til med som det af jag är och att för ett skriv
    w i na nie jest się z to napisz ve bir bu için ne nasıl yaz bana on ja ei kirjoita että a v napiš
    yang dan ini untuk dengan apa tulis viết một bằng
"""
"""German, Romance, Dutch and Nordic, then Slavic, Turkish, Finnish and others."""
_COMMON, _FOREIGN = (frozenset(words.split()) for words in (_ENGLISH, _OTHERS))


def is_english(prompt: str) -> bool:
    """Return whether a prompt may be English, judged by its letters and its common words."""
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    if sum(map(str.isascii, words)) * 2 < len(words):
        return False
    return sum(word in _COMMON for word in words) >= sum(word in _FOREIGN for word in words)
