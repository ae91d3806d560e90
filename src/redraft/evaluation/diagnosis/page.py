"""The page of a diagnosis: the sentence, score over tokens, all rows, what changed. It has no script."""

from __future__ import annotations

from collections.abc import Iterator

from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.diagnose import notes, sections, title, verdict, went
from redraft.evaluation.diagnosis.equal_tokens import Curves
from redraft.evaluation.diagnosis.figures import Figures
from redraft.evaluation.pages.charts import curves as drawn
from redraft.evaluation.pages.page import Item, Part, render
from redraft.evaluation.reports.chains import Links, Listed, listed, title_of
from redraft.evaluation.tables import p_value, percent, plain
from redraft.jobs.counting import counted

_MOST = 50  # items to list


def page(found: Figures, curves: Curves | None, made: str, links: Links | None = None) -> str:
    """Return the page.

    Args:
        found: What revising did.
        curves: Compare revising with other strategies.
        made: How the page was made.
        links: Lead to the page of `chains_of`.
    """
    said = curves.verdict if curves else verdict(found)
    first, best = found.levels[0].right, found.levels[-1].right
    gain, interval = plain(found.decision.gain.times(100), 1, sign=True)
    tiles = {
        "first answers are right": percent(first, 1)[0],
        "best answers are right": percent(best, 1)[0],
        f"points gained{f', {interval}' if interval else ''}": gain,
        "McNemar's p": p_value(found.decision.p),
    }
    parts = [Part(verdict=said, tiles=tiles, notes=[*notes(found)])]
    if curves:
        chart = drawn(equal_tokens.series(curves), "new tokens an item", "right answers, %")
        parts.append(Part("At equal tokens", notes=[*equal_tokens.notes(curves)], chart=chart))
        parts += [Part(name, lines=rows) for name, rows in equal_tokens.sections(curves).items()]
    parts += [Part(name, lines=rows) for name, rows in sections(found).items()]
    parts += _changed(found, links or Links())
    return render("Does revising pay?", title(found), parts, made)


def chains_of(found: Figures) -> list[Listed]:
    """Return the chains that count, with what became of their first answers."""
    chains = zip(found.chains, listed(each.chain for each in found.chains), strict=True)
    return [entry._replace(kinds=[went(each.first, each.best)]) for each, entry in chains]


def _changed(found: Figures, links: Links) -> Iterator[Part]:
    """Yield the items that revising made right, and those that it made wrong."""
    chains = [*zip(found.chains, chains_of(found), strict=True)]
    for kind in ("wrong → right", "right → wrong"):
        changed = [(each, entry) for each, entry in chains if kind in entry.kinds]
        items = [
            Item(title_of(each.chain) or entry.name, links.to(entry.name), entry.name)
            for each, entry in changed[:_MOST]
        ]
        if (more := len(changed) - _MOST) > 0:
            items.append(Item(f"{more:,} more", links.to(f"only={kind}"), ""))
        if items:
            yield Part(f"{kind}, first to best", counted(len(changed), "answer"), items=items)
