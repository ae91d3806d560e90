"""Find the verb that an English instruction begins with and the noun after it (Self-Instruct's figure 3).

The verb is the first word that is a known verb of instructions, and the noun is the last word of the noun
phrase after it; a parser finds more. Questions that begin with a question word, and other languages, have no
verb.
"""

from __future__ import annotations

import re
from collections import Counter

VERBS, NOUNS = 20, 4
"""Verbs shown, and nouns of each, as in Self-Instruct's figure."""

_VERBS_TEXT = """
    add amend analyse analyze answer arrange ask assess assign assume brainstorm break build
    calculate categorise categorize change check choose cite clarify classify combine come compare
    compile complete compose compress compute conduct construct continue contrast convert convince
    copy correct count craft create criticise critique curate debate debug decide decode deduce
    define delete demonstrate derive describe design detect determine develop differentiate discover
    discuss display distinguish divide draft edit elaborate eliminate encode enter estimate evaluate
    examine expand explain explore express extend extract fill filter find fix format formulate
    gather generate get give group guess help highlight hypothesise hypothesize identify illustrate
    imagine implement improve include indicate infer insert interpret invent judge justify label
    link list locate look make match measure mention merge modify name narrate normalize offer order
    organise organize outline output paraphrase parse perform persuade pick plan point populate
    predict prepare present print prioritise prioritize produce pronounce proofread propose prove
    provide put quote rank rate read rearrange recall recommend reconstruct reduce reformat refute
    remove rename reorder repeat rephrase replace reply report research respond restate return
    reverse review revise rewrite round say schedule select sentence separate set shorten show
    simplify simulate solve sort specify spell split standardise standardize state substitute
    suggest summarise summarize supply support switch synthesise synthesize take tell think trace
    train transcribe transform translate try turn understand update use validate verify visualise
    visualize weigh write
"""
_DETERMINERS_TEXT = """
    a above all an another any below both each either every her his its many more most my no one our
    one several some such that the their these this those three two four five six seven eight nine ten up your
    following given
"""
_ENDS_TEXT = """
    about above after against and are as at based because before below between but by can containing
    could describing do does during for from given had has have how i if in into is it like of on or over
    should so that than then they through to under using was we were what when where whether which
    while who why will with within without would you
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


def ranked_verbs(counts: Counter[tuple[str, str]]) -> list[tuple[str, int]]:
    """Return the most frequent verbs with their counts."""
    verbs: Counter[str] = Counter()
    for (verb, _), number in counts.items():
        verbs[verb] += number
    return sorted(verbs.items(), key=lambda pair: (-pair[1], pair[0]))[:VERBS]


def nouns_of(counts: Counter[tuple[str, str]], verb: str) -> list[str]:
    """Return the most frequent nouns of a verb."""
    nouns = [(noun, number) for (of, noun), number in counts.items() if of == verb and noun]
    return [noun for noun, _ in sorted(nouns, key=lambda pair: (-pair[1], pair[0]))[:NOUNS]]
