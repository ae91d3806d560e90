"""Describe generated tasks: lengths, verbs and nouns, and rejects by rule, as figures and as a page."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from redraft import __version__
from redraft.chain import read_jsonl
from redraft.collect.report.show import distribution, tiles
from redraft.collect.report.stats import ranked
from redraft.files import write_file
from redraft.generate.instructions.tasks import place_of
from redraft.pages.charts import bars
from redraft.pages.page import Card, Part, render
from redraft.verify.segment import count_words

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


@dataclass
class TaskStats:
    """Figures of generated tasks."""

    instructions: int = 0
    tasks: int = 0  # instances of the instructions
    classifications: int = 0  # instructions that ask for a label, where the way asks for that
    without_input: int = 0
    # Words by part: instruction, input, output.
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    verbs: Counter[tuple[str, str]] = field(default_factory=Counter)  # pairs of verb and noun
    without_verb: int = 0  # instructions that do not begin with a known English verb, such as questions

    def rows(self) -> list[tuple[str, str]]:
        """Return rows for a summary."""
        top = ", ".join(f"{verb} {number:,}" for verb, number in ranked_verbs(self.verbs)[:5])
        return [("verbs", f"{top}; {self.without_verb:,} without")] if top else []


def stats_of(out: Path) -> TaskStats:
    """Read a file of generated tasks."""
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
            stats.instructions += 1
            stats.classifications += bool(chain.meta["generated"].get("is_classification"))
            stats.lengths["instruction"][count_words(place[2])] += 1
            if found := verb_and_noun(place[2]):
                stats.verbs[found] += 1
            else:
                stats.without_verb += 1
        last = place
    return stats


def write_page(out: Path, stats: TaskStats, rejected: Counter[str], made: str) -> Path:
    """Write the page beside the output, and return its path. It replaces an older one when it is complete."""
    path = out.with_name(f"{out.name}.html")
    write_file(path, _page(out.name, stats, rejected, made).encode(), hint="Make room.")
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


# Verbs and nouns, as in Self-Instruct's figure 3: the verb is the first word that is a known verb of
# instructions, and the noun the last word of the phrase after it. A parser finds more.


def verb_and_noun(instruction: str) -> tuple[str, str] | None:
    """Return the verb and the noun of an instruction in lower case; the noun is empty if there is none.

    Return None if the instruction does not begin with a known verb.
    """
    words = [word.lower() for word in _WORD.findall(instruction)]
    place = next((n for n, word in enumerate(words) if word not in _OPENERS and word != ","), len(words))
    if place == len(words) or words[place] not in _VERBS:
        return None
    phrase: list[str] = []
    for word in words[place + 1 :]:
        if not phrase and (word in _DETERMINERS or word in _PRONOUNS or word.isdigit()):
            continue
        if word in _ENDS or not word[0].isalpha():
            break
        phrase.append(word)
    return words[place], phrase[-1] if phrase and len(phrase) <= 4 else ""


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
