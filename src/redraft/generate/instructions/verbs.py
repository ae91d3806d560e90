"""Find the verb that an English instruction begins with, and the noun after it, without a parser.

Self-Instruct's picture shows root verbs and their direct nouns. A parser finds more of them; this heuristic
takes the first word that is a known verb of instructions, and the last word of the noun phrase after it.
Questions that begin with a question word, and other languages, have none: they are counted as such.
"""

from __future__ import annotations

import re

_VERBS_TEXT = """
    add analyse analyze answer arrange ask assess assign assume brainstorm break build calculate
    categorise categorize change check choose cite clarify classify combine come compare complete
    compose compute conduct construct continue contrast convert convince copy correct count craft
    create criticise critique debate decide decode deduce define demonstrate derive describe design
    detect determine develop differentiate discuss distinguish divide draft edit elaborate eliminate
    encode estimate evaluate examine expand explain explore express extend extract fill filter find
    fix format formulate gather generate get give group guess help highlight hypothesise hypothesize
    identify illustrate imagine implement improve infer insert interpret invent judge justify label
    list locate look make match measure mention merge modify name narrate offer order organise
    organize outline paraphrase parse perform persuade pick plan point predict prepare present
    prioritise prioritize produce pronounce proofread propose prove provide put quote rank rate read
    rearrange recall recommend reconstruct reduce refute remove rename reorder repeat rephrase
    replace report research respond restate reverse review revise rewrite round say select sentence
    separate set shorten show simplify simulate solve sort specify spell split standardise
    standardize state substitute suggest summarise summarize supply support switch synthesise
    synthesize take tell think trace transcribe transform translate turn understand update use
    validate verify visualise visualize weigh write
"""
_DETERMINERS_TEXT = """
    a all an another any both each either every her his its many more most my no one our several
    some such that the their these this those three two four five six seven eight nine ten up your
    following given
"""
_ENDS_TEXT = """
    about above after against and are as at based because before below between but by can containing
    could describing do does during for from given had has have how if in into is it of on or over
    should so that than then through to under using was were what when where whether which while who
    why will with within without would
"""
_OPENERS_TEXT = """
    can could please would you i we help me us to let's now then
"""
_PRONOUNS_TEXT = """
    me us him them it
"""
_VERBS, _DETERMINERS, _ENDS, _OPENERS, _PRONOUNS = (
    frozenset(text.split())
    for text in (_VERBS_TEXT, _DETERMINERS_TEXT, _ENDS_TEXT, _OPENERS_TEXT, _PRONOUNS_TEXT)
)
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*|[.,:;?!\"“”()\n]|\d+")


def verb_and_noun(instruction: str) -> tuple[str, str] | None:
    """Return the verb and the noun of an instruction in lower case; the noun is empty if there is none.

    Return None if the instruction does not begin with a known verb.
    """
    words = [word.lower() for word in _WORD.findall(instruction)]
    place = next((n for n, word in enumerate(words) if word not in _OPENERS and word != ","), len(words))
    if place == len(words) or words[place] not in _VERBS:
        return None
    return words[place], _noun(words[place + 1 :])


def _noun(words: list[str]) -> str:
    """Return the last word of the noun phrase that begins here."""
    phrase: list[str] = []
    for word in words:
        if not phrase and (word in _DETERMINERS or word in _PRONOUNS or word.isdigit()):
            continue
        if word in _ENDS or not word[0].isalpha():
            break
        phrase.append(word)
    return phrase[-1] if phrase and len(phrase) <= 4 else ""
