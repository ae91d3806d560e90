"""The words with which checks, critics and apologies talk about texts, and words without a meaning.

English alone. `echo` and `nonanswer` tell talk from answers by them.
"""

from __future__ import annotations

import regex

from redraft.verify.segment import words

DIGIT = regex.compile(r"\d")
QUOTED = regex.compile(r""""[^"\n]{0,80}"|“[^”\n]{0,80}”|(?<!\w)'[^'\n]{0,80}'(?!\w)""")

COMMON = frozenset(
    words(
        """
        a about above after all also although always am an and any anything are around as at be because been
        before being below between both but by can could did do does doing done down during each either else
        even ever every everything for from further get gets go goes going got had has have having he her
        here hers him his how however i if in into is it its itself just let like made make makes making may
        maybe me might more most much must my myself neither never no nor not nothing now of off on once one
        only or other our out over own please rather said same say says shall she should since so some
        something still such sure than that the their them then there therefore these they thing things this
        those though through thus to under until up upon us very was way we well were what when where which
        while who whom whose why will with within without would yes yet you your yours i'm i'll i've i'd
        it's that's there's here's let's don't doesn't didn't isn't aren't wasn't weren't can't cannot
        couldn't won't wouldn't shouldn't you're you've you'll we're we've we'll they're they've
        """
    )
)
"""Words without a meaning of their own. They count for neither side."""

_TALK = regex.compile(
    r"""
    answer | repl(?:y|ie) | respon[sd] | feedback | critici | critique | review | judge | instruct
    | request | question | prompt | statement | content | version | draft | text | revis
    | rewrit | rewrote | rephras | reword | reformat | edit | correct | fix | mend | amend | improv
    | clarit | grammar | adjust | modif | chang | remov | delet | add(?:s|ed|ing)?$ | repeat | shorten
    | lengthen | trim | cut | sentence | words?$ | wording | character | letters?$ | paragraph | lines?$
    | column | phras | length | begin | began | starts?$ | ends?$ | ended$ | contain | miss
    | lack | match | fit(?:s|ted)?$ | json | pattern | schema | block | valid | number | digit | language
    | probab | command | exit | status | limit | allow | need | want | requir | exceed | expect
    | satisf | comply | compli | complain | too$ | many$ | few(?:er)?$ | least$ | exact | extra
    | long(?:er)?$ | short(?:er)?$ | total | mistake | error | wrong | right$ | fault | reject | accept
    | fail | pass(?:ed|es)?$ | apolog | sorry | clear | clarif | concis | format | quot | comma
    | punctuat | original | previous | final | complet | incomplet | unfinish | again$ | check
    """,
    regex.VERBOSE,
)
"""Beginnings of the words that checks, critics and apologies use; `$` ends a word."""


def stem_of(word: str) -> str | None:
    """Return the beginning that makes a word talk; None for any other word."""
    found = _TALK.match(word)
    return found[0] if found else None
