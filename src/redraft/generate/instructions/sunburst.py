"""Draw verbs and their nouns as two rings, the picture that Self-Instruct is known for (its figure 3).

The inner ring has the most frequent verbs, and the outer one each verb's most frequent nouns. Their share of
all instructions is said beside the picture, because rare ones are left out.
"""

from __future__ import annotations

from collections import Counter
from math import cos, pi, sin

from redraft.collect.report.charts import safe

VERBS, NOUNS = 20, 4
"""Verbs shown, and nouns of each, as in Self-Instruct's figure."""

_HOLE, _MIDDLE, _RIM = 62, 148, 236  # radii in units of the drawing
_LEAST = 11  # units of the drawing: narrower slices have no label


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
        begin = start
        for noun, times in nouns_of(counts, verb):
            width = times / total
            parts.append(_slice(noun, times, (begin, width), (_MIDDLE + 2, _RIM), colour, "noun"))
            begin += width
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
        f'<path d="{path}" fill="{colour}"/>{_label(name, start + share / 2, share, radii)}</g>'
    )


def _at(radius: float, turn: float) -> str:
    angle = 2 * pi * turn - pi / 2
    return f"{radius * cos(angle):.2f} {radius * sin(angle):.2f}"


def _label(name: str, middle: float, share: float, radii: tuple[int, int]) -> str:
    """Write a name along the radius, readable from the right or the left."""
    if share * pi * sum(radii) < _LEAST:
        return ""
    room = int((radii[1] - radii[0]) / 6)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    degrees = 360 * middle - 90
    turned = degrees + 180 if middle % 1 > 0.5 else degrees
    place = _at((radii[0] + radii[1]) / 2, middle)
    return (
        f'<text transform="translate({place.replace(" ", ",")}) rotate({turned:.1f})" text-anchor="middle" '
        f'dominant-baseline="central">{safe(shown)}</text>'
    )
