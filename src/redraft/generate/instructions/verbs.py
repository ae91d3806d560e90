"""Find the verb that an English instruction begins with and the noun after it, and draw them as two rings.

That is the picture that Self-Instruct is known for (its figure 3). The inner ring has the most frequent
verbs, and the outer one the most frequent nouns of each. The verb is the first word that is a known verb of
instructions, and the noun is the last word of the noun phrase after it; a parser finds more. Questions that
begin with a question word, and other languages, have none: they are counted as such.
"""

from __future__ import annotations

import re
from collections import Counter
from math import cos, pi, sin

from redraft.collect.report.charts import safe

VERBS, NOUNS = 20, 4
"""Verbs shown, and nouns of each, as in Self-Instruct's figure."""

_HOLE, _MIDDLE, _RIM = 62, 148, 236  # radii in units of the drawing
_OUTER = (_MIDDLE + 2, _RIM)
_LEAST = 11  # units of the drawing: narrower slices have no label

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


def sunburst(counts: Counter[tuple[str, str]]) -> str:
    """Return the picture as SVG. `counts` has pairs of verb and noun; a noun may be empty."""
    verbs = ranked_verbs(counts)
    total = sum(number for _, number in verbs)
    if not total:
        return ""
    parts, start = [], 0.0
    for place, (verb, number) in enumerate(verbs):
        share = number / total
        colour = f"hsl({place * 360 / len(verbs):.0f} 48% 44%)"
        parts.append(_slice(verb, number, (start, share), (_HOLE, _MIDDLE), colour, "verb"))
        begin, end = start, start + share
        for noun, times in nouns_of(counts, verb):
            if _label_fits(width := times / total, _OUTER):
                parts.append(_slice(noun, times, (begin, width), _OUTER, colour, "noun"))
                begin += width
                number -= times
        if number:
            others = f"{verb}, other nouns or none"
            parts.append(_slice(others, number, (begin, end - begin), _OUTER, colour, "rest"))
        start += share
    size = _RIM + 4
    return (
        f'<svg class="sunburst" viewBox="{-size} {-size} {2 * size} {2 * size}" role="img" '
        f'aria-label="verbs and nouns">{"".join(parts)}</svg>'
    )


def ranked_verbs(counts: Counter[tuple[str, str]]) -> list[tuple[str, int]]:
    """Return the most frequent verbs with their counts."""
    verbs: Counter[str] = Counter()
    for (verb, _), number in counts.items():
        verbs[verb] += number
    return sorted(verbs.items(), key=lambda pair: (-pair[1], pair[0]))[:VERBS]


def nouns_of(counts: Counter[tuple[str, str]], verb: str) -> list[tuple[str, int]]:
    """Return the most frequent nouns of a verb with their counts."""
    nouns = [(noun, number) for (of, noun), number in counts.items() if of == verb and noun]
    return sorted(nouns, key=lambda pair: (-pair[1], pair[0]))[:NOUNS]


def _slice(
    name: str,
    number: int,
    turn: tuple[float, float],
    radii: tuple[int, int],
    colour: str,
    kind: str,
) -> str:
    """Draw a part of a ring, with its name as label and its count as tooltip.

    Args:
        name: The label.
        number: Its count.
        turn: Where it begins and how wide it is, in full turns.
        radii: Of its inner and outer edge.
        colour: Of its area.
        kind: Its class.
    """
    start, share = turn
    share = min(share, 0.9999)  # an arc from a point to itself is nothing
    label = _label(name, start + share / 2, radii) if kind != "rest" and _label_fits(share, radii) else ""
    inner, outer = radii
    large = int(share > 0.5)
    ends = [
        _at(radius, start + part) for radius, part in ((outer, 0), (outer, share), (inner, share), (inner, 0))
    ]
    path = (
        f"M{ends[0]}A{outer} {outer} 0 {large} 1 {ends[1]}L{ends[2]}A{inner} {inner} 0 {large} 0 {ends[3]}Z"
    )
    return (
        f'<g class="{kind}"><title>{safe(name)}: {number:,}</title>'
        f'<path d="{path}" fill="{colour}"/>{label}</g>'
    )


def _at(radius: float, turn: float) -> str:
    angle = 2 * pi * turn - pi / 2
    return f"{radius * cos(angle):.2f} {radius * sin(angle):.2f}"


def _label_fits(share: float, radii: tuple[int, int]) -> bool:
    return share * pi * sum(radii) >= _LEAST


def _label(name: str, middle: float, radii: tuple[int, int]) -> str:
    """Write a name along the radius, readable from the right or the left."""
    room = int((radii[1] - radii[0]) / 6)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    degrees = 360 * middle - 90
    turned = degrees + 180 if middle % 1 > 0.5 else degrees
    place = _at((radii[0] + radii[1]) / 2, middle)
    return (
        f'<text transform="translate({place.replace(" ", ",")}) rotate({turned:.1f})" text-anchor="middle" '
        f'dominant-baseline="central">{safe(shown)}</text>'
    )
