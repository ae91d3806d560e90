"""Measure cleaning and splitting of shared conversations beside FastChat's method, and damage to code."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_html import fences_of
from data_material import CLEAN, Conversations, Scale, data, write_conversations
from material import default_model, shared
from measure import Figure, Goal, Row, in_turns, over
from redraft.chain.read.records import read_records
from redraft.chain.texts import turns_of
from weights_run import remove, run_command, weights

MEASURE = "cleaning and splitting {count:,} shared conversations vs FastChat's released way"
HOW = (
    "Conversations in HTML, as a chat page shared them, are made of FastChat's dummy conversations and "
    "OASST1's paths, each with its own words and programs. redraft: `data clean {flags}`, then `data split` "
    "to 2,048 tokens of the default model's tokenizer, from file to file; the start of both processes "
    "counts. The peer (`data_clean_peer.py`): markdownify on BeautifulSoup, the language filter and the "
    "splitter, from file to file as released, on the first {sample:,} conversations; its imports do not "
    "count. It has as many processes in each step, and the same tokenizer and language model. Both sides "
    "take turns, and are compared by conversations per second of processor time. Code blocks must be "
    "exactly those from which the HTML was made."
)
PEER = Path(__file__).with_name("data_clean_peer.py")


@dataclass(frozen=True)
class Times:
    clean: float
    split: float

    @property
    def whole(self) -> float:
        return self.clean + self.split


def run(scale: Scale) -> Row:
    how = HOW.format(flags=" ".join(CLEAN), sample=scale.sample)
    measure = MEASURE.format(count=scale.conversations)
    conversations = Conversations(shared())
    work = scale.work / "clean"
    work.mkdir()
    for name, count in (("all", scale.conversations), ("sample", scale.sample)):
        write_conversations(work / f"{name}.json", conversations, count)
    weights("from-gguf", default_model(), "-o", work / "tokenizer")
    ours, theirs = in_turns(
        scale.rounds, lambda: by_redraft(work, scale.workers), lambda: by_peer(work, scale.workers)
    )
    by_us = _compared(conversations, said_in(read_pieces(work / "split.jsonl")))
    by_them = _compared(conversations, said_in(read_released(work / "peer.json")))
    size = (work / "all.json").stat().st_size / 1e9
    remove(work)
    figures = (
        *(_ratio(scale, part, ours, theirs) for part in ("whole", "clean", "split")),
        Figure("code blocks that are not as they were", (by_us.damaged,), "differ", Goal("≤", 0), by_us.says),
        Figure(
            "code blocks that are not as they were, peer", (by_them.damaged,), "differ", None, by_them.says
        ),
    )
    return Row(measure, how, figures, (f"The whole input has {size:.2g} GB.",))


def by_redraft(work: Path, workers: int) -> Times:
    cleaned, split = work / "cleaned.jsonl", work / "split.jsonl"
    remove(cleaned)
    remove(split)
    first = data("clean", work / "all.json", "-o", cleaned, *CLEAN, workers=workers)
    second = data("split", cleaned, "-o", split, "--tokenizer", work / "tokenizer", workers=workers)
    return Times(first.processor, second.processor)


def by_peer(work: Path, workers: int) -> Times:
    command = [sys.executable, str(PEER), str(work / "sample.json"), str(work / "peer.json")]
    told = work / "peer.seconds"
    flags = ["--tokenizer", str(work / "tokenizer"), "--workers", str(workers), "--seconds", str(told)]
    run_command([*command, *flags])
    html, language, split = json.loads(told.read_text("utf-8"))
    return Times(html + language, split)


def _ratio(scale: Scale, part: str, ours: list[Times], theirs: list[Times]) -> Figure:
    us = [scale.conversations / getattr(each, part) for each in ours]
    them = [scale.sample / getattr(each, part) for each in theirs]
    sides = f"redraft {statistics.median(us):,.0f}/s; peer {statistics.median(them):,.0f}/s"
    what = {"whole": "cleaning and splitting", "clean": "cleaning alone", "split": "splitting alone"}[part]
    return Figure(what, over(us, them), "×", Goal("≥", 5.0) if part == "whole" else None, sides)


# Changes of the code blocks.


@dataclass(frozen=True)
class Compared:
    conversations: int
    blocks: int
    damaged: int

    @property
    def says(self) -> str:
        return f"of {self.blocks:,} in the {self.conversations:,} conversations that were kept"


def _compared(conversations: Conversations, said: dict[int, list[str]]) -> Compared:
    blocks = damaged = 0
    for number, texts in said.items():
        before = conversations.make(number).blocks
        blocks += len(before)
        lost = Counter(before)
        new = Counter(block for text in texts for block in fences_of(text))
        damaged += max((lost - new).total(), (new - lost).total())
    return Compared(len(said), blocks, damaged)


def said_in(pieces: Iterable[tuple[str, list[str]]]) -> dict[int, list[str]]:
    said: dict[int, list[str]] = {}
    for name, texts in pieces:
        number = int(name.rpartition("/")[2].lstrip("c").partition("#")[0].partition("_")[0])
        said.setdefault(number, []).extend(texts)
    return said


def read_pieces(path: Path) -> Iterator[tuple[str, list[str]]]:
    for chain in read_records(path):
        yield chain.id, [turn.text for turn in turns_of(chain)]


def read_released(path: Path) -> Iterator[tuple[str, list[str]]]:
    for each in json.loads(path.read_text("utf-8")):
        yield each["id"], [turn["value"] for turn in each["conversations"]]
