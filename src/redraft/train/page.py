"""The page of a run that goes on: what its log and its samples say, as charts and a list of answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan
from statistics import fmean
from textwrap import shorten
from typing import Any

from redraft.chain import Chain
from redraft.counting import counted
from redraft.pages.charts import curves
from redraft.pages.page import Card, Item, Part, render

MOST_POINTS = 120  # of a line: of more, neighbours are one point with their mean
SHOWN = 10  # best and worst answers
_CHARTS = {
    "loss": ("loss", "mean of a token, or of a pair"),
    "reward": ("reward|reward/.*", "mean of the answers"),
    "KL from the reference": ("kl|kl_k3", "nats in an answer"),
    "pairs told right": ("accuracy|rewards/accuracies", "share, 0 to 1"),
    "rewards of a pair": ("rewards/(chosen|rejected|margins)", ""),
    "entropy": ("entropy|rollout_entropy", "nats in a token"),
    "length of answers": ("response_tokens", "tokens"),
    "norm of the gradient": ("grad_norm", "before it is clipped"),
    "learning rate": ("learning_rate", ""),
    "tokens a second": ("tokens_per_second", "without padding"),
}
"""Charts by title: the names of the numbers of the log that they show, also of held-out data, and a note."""

Row = Mapping[str, Any]  # a line of the log
Sampled = tuple[Chain, str]  # an answer of the policy, and a link to it


def page_of(
    name: str, rows: Sequence[Row], samples: Sequence[Sampled], state: str, *, steps: int, every: int
) -> str:
    """Return the page.

    Args:
        name: What is trained.
        rows: The lines of the log.
        samples: The answers of the last rollout batch.
        state: What the run does, in words.
        steps: How many steps the run has; 0 if that is not known.
        every: Seconds after which a browser loads the page again; 0 for never.
    """
    parts = [
        Part(verdict=state, tiles=dict(_tiles(rows, steps)), cards=[*cards_of(rows)]),
        *_answers(samples),
    ]
    made = f"This page loads itself again every {every} s." if every else "The run is over: this page stays."
    return render(name, counted(len(rows), "line") + " of the log", parts, made, refresh=every)


def _tiles(rows: Sequence[Row], steps: int) -> Iterator[tuple[str, str]]:
    """Yield the last numbers."""
    last: dict[str, Any] = {}
    for row in rows:
        last |= row
    if "step" in last:
        yield f"of {counted(steps, 'step')}" if steps else "steps", f"{last['step']:,}"
    for field, title in (
        ("reward", "reward"),
        ("kl", "KL"),
        ("loss", "loss"),
        ("eval_loss", "loss of held-out data"),
    ):
        if isinstance(last.get(field), int | float):
            yield title, f"{last[field]:.3f}"
    if isinstance(last.get("tokens_per_second"), int | float):
        yield "tokens a second", f"{last['tokens_per_second']:,.0f}"


def cards_of(rows: Sequence[Row]) -> Iterator[Card]:
    """Yield the charts of a log."""
    names = dict.fromkeys(name for row in rows for name in row)
    for title, (wanted, note) in _CHARTS.items():
        shown = [name for name in names if re.fullmatch(f"(eval_)?({wanted})", name)]
        if series := {name: points for name in shown if (points := _points(rows, name))}:
            yield Card(title, note, curves(series, "step", "", wide=False))


def _points(rows: Sequence[Row], name: str) -> list[tuple[float, float, float, float, str]]:
    """Return the points of a number: step, value, no interval, and a tooltip."""
    found = [
        (row["step"], row[name]) for row in rows if _is_number(row.get(name)) and _is_number(row.get("step"))
    ]
    together = -(-len(found) // MOST_POINTS)
    points = []
    for first in range(0, len(found), together or 1):
        steps, values = zip(*found[first : first + together], strict=True)
        at, value = fmean(steps), fmean(values)
        points.append((at, value, nan, nan, f"{name}, step {steps[-1]:,}: {value:.4g}"))
    return points


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _answers(samples: Sequence[Sampled]) -> Iterator[Part]:
    """Yield the answers of the last rollout batch: the best ones, and the worst."""
    by_reward = sorted(samples, key=lambda each: -_reward(each[0]))
    best, worst = by_reward[:SHOWN], by_reward[SHOWN:][-SHOWN:]
    for title, shown in (("Best answers of the last rollout batch", best), ("Worst answers", worst)):
        if shown:
            yield Part(title, f"of {counted(len(samples), 'answer')}", items=[_item(*each) for each in shown])


def _item(chain: Chain, link: str) -> Item:
    answer, prompt = (shorten(text, 90, placeholder=" …") for text in (chain.answer, chain.prompt.text))
    return Item(answer or "an empty answer", link, f"reward {_reward(chain):.3g} · {prompt}")


def place_of(chain: Chain) -> tuple[str, str]:
    """Return the rollout batch of an answer of a policy, and its place in that."""
    return str(chain.meta["source"]["rollout"]), str(chain.meta["source"]["row"])


def _reward(chain: Chain) -> float:
    return float(chain.meta["source"]["reward"])
