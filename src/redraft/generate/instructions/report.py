"""Describe generated tasks: lengths, verbs and nouns, and rejects by rule, as figures and as a page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from redraft import __version__
from redraft.chain import read_jsonl
from redraft.collect.report.show import distribution, tiles
from redraft.collect.report.stats import ranked
from redraft.errors import OutputError
from redraft.files import replace_file
from redraft.generate.instructions.tasks import place_of
from redraft.generate.instructions.verbs import VERBS, nouns_of, ranked_verbs, verb_and_noun
from redraft.pages.charts import bars
from redraft.pages.page import Card, Part, render
from redraft.verify.segment import count_words


@dataclass
class TaskStats:
    """Figures of generated tasks.

    Attributes:
        instructions: How many there are.
        tasks: Their instances.
        classifications: Instructions that ask for a label, where the way asks for that.
        without_input: Tasks that need no input.
        lengths: Words by part: instruction, input, output.
        verbs: Pairs of verb and noun.
        without_verb: Instructions that do not begin with a known English verb, such as questions.
    """

    instructions: int = 0
    tasks: int = 0
    classifications: int = 0
    without_input: int = 0
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    verbs: Counter[tuple[str, str]] = field(default_factory=Counter)
    without_verb: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """Return rows for a summary."""
        top = ", ".join(f"{verb} {number:,}" for verb, number in ranked_verbs(self.verbs)[:5])
        return [("verbs", f"{top}; {self.without_verb:,} without")] if top else []


def stats_of(out: Path) -> TaskStats:
    """Read a file of generated tasks.

    Raises:
        RecordError: A line is not one.
    """
    stats = TaskStats(lengths={part: Counter() for part in ("instruction", "input", "output")})
    last = None
    for chain in read_jsonl(out):
        place = place_of(chain)
        stats.tasks += 1
        if chain.prompt.input:
            stats.lengths["input"][count_words(chain.prompt.input)] += 1
        else:
            stats.without_input += 1
        stats.lengths["output"][count_words(chain.answer)] += 1
        if place != last:  # an instruction's instances stand together
            _add(stats, place[2], is_classification=bool(chain.meta["generated"].get("is_classification")))
        last = place
    return stats


def _add(stats: TaskStats, instruction: str, *, is_classification: bool) -> None:
    stats.instructions += 1
    stats.classifications += is_classification
    stats.lengths["instruction"][count_words(instruction)] += 1
    found = verb_and_noun(instruction)
    if found is None:
        stats.without_verb += 1
    else:
        stats.verbs[found] += 1


def write_page(out: Path, stats: TaskStats, rejected: Counter[str], made: str) -> Path:
    """Write the page beside the output, and return its path. It replaces an older one when it is complete.

    Raises:
        OutputError: It cannot be written.
    """
    path = out.with_name(f"{out.name}.html")
    try:
        replace_file(path, _page(out.name, stats, rejected, made).encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.", hint="Make room.") from None
    return path


def _page(name: str, stats: TaskStats, rejected: Counter[str], made: str) -> str:
    totals = {
        "instructions": stats.instructions,
        "tasks": stats.tasks,
        "classifications": stats.classifications,
        "without an input": stats.without_input,
        "rejected": rejected.total(),
    }
    shown = {title: number for title, number in totals.items() if number or title in ("tasks", "rejected")}
    cards = [_verbs(stats)] if stats.verbs else []
    if rejected:
        cards.append(Card("rejects", "by rule", bars(ranked(rejected))))
    cards += [distribution(f"words, {part}", counts) for part, counts in stats.lengths.items() if counts]
    parts = [Part(tiles=tiles(shown)), Part("Tasks", cards=cards)]
    return render(name, "Generated instructions", parts, f"redraft {__version__} · {made}")


def _verbs(stats: TaskStats) -> Card:
    """Return the most frequent verbs, each with its most frequent nouns."""
    verbs = ranked_verbs(stats.verbs)
    shown = sum(number for _, number in verbs)
    note = (
        f"the {len(verbs)} most frequent verbs begin {shown:,} of {stats.instructions:,} instructions; "
        f"{stats.without_verb:,} begin with no known English verb, such as questions"
    )
    named = [(f"{verb}: {', '.join(nouns_of(stats.verbs, verb)) or '–'}", number) for verb, number in verbs]
    return Card("Verbs and nouns", note, bars(named, most=VERBS, wide=True), wide=True)
