"""Make the data for measuring `redraft data`: instructions and conversations, varied at random.

The texts come from permissively licensed shared data beside the checkout: Self-Instruct's tasks, Vicuna's
questions, GSM8K, OASST1's English trees, FastChat's dummy conversations, and programs of HumanEval and
DrRepair. None of them is in the repository. The same seed gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_html import Block, cut, fences_of, render
from weights_run import Took, run_command

SEED = 4
WINDOW = 2_000  # a near-duplicate copies one of so many earlier texts, so samples have some too

CLEAN = ("--like", "fastchat", "--languages", "en")  # the rules by which both sides clean


def data(*arguments: str | Path, workers: int) -> Took:
    command = [sys.executable, "-m", "redraft", "data", *map(str, arguments), "--workers", str(workers)]
    return run_command([*command, *["--quiet"] * (arguments[0] != "stats")])  # which has no such flag


@dataclass(frozen=True)
class Scale:
    rounds: int  # repetitions of short measurements
    pool: int  # instructions that one candidate is compared with
    candidates: int  # candidates, one after the other
    conversations: int  # conversations to clean and split
    sample: int  # the number of them that the peer gets
    records: int  # records of the simple verbs
    texts: int  # texts that MinHash compares
    exact: int  # the number of them of which all pairs are compared
    memory: tuple[int, ...]  # sizes of the inputs for the memory of `clean`, in bytes
    workers: int  # processes of redraft, and of its peers
    work: Path  # a folder with room for four times the largest input


# Instructions.

FRAMES = (
    "Explain {} to a beginner.", "Write a short story about {}.", "Summarise in one sentence: {}.",
    "Give three examples of {}.",
    "What is the difference between {} and {}?",
    "Rewrite this more politely: {}.", "Translate into French: {}.", "Find the mistake in: {}.",
    "List the steps needed for {}.",
    "Write an email to a friend who asked about {}.",
    "Is it true that {}? Say why.", "Describe {} in two sentences.", "Suggest a title for a text on {}.",
    "Turn this into a question: {}.", "Name the main idea of: {}.",
    "How would you teach {} to children?",
    "Compare {} with {}.", "Write a poem on {}.", "Put into the past tense: {}.",
    "Why does it matter that {}?",
    "Make a list of questions about {}.",
    "Classify the following as fact or opinion: {}.",
    "Complete the sentence: {}", "Correct the grammar of: {}.", "What happens next? {}.",
    "Design a game that has to do with {}.",
    "Argue for and against {}.",
)  # fmt: skip
"""Templates of instructions, written for this benchmark."""


@cache
def sentences(folder: Path) -> list[list[str]]:
    texts = [each["question"] for each in _lines(folder / "gsm8k" / "train.jsonl")]
    texts += [each["text"] for each in _lines(folder / "questions" / "vicuna_80.jsonl")]
    for name in ("seed_tasks", "user_oriented_252"):
        texts += [each["instruction"] for each in _lines(folder / "self_instruct" / f"{name}.jsonl")]
    texts += [message["text"] for path in paths(folder) for message in path]
    cut_up = (part.split() for text in dict.fromkeys(texts) for part in re.split(r"[.?!:\n]+\s*", text))
    return [words for words in cut_up if 4 <= len(words) <= 60]


def instructions(folder: Path, count: int, seed: int = SEED, near: float = 0.25) -> Iterator[str]:
    """Yield `count` instructions of 3 to 60 words, of which the share `near` are near-duplicates."""
    rng = random.Random(seed)
    known = sentences(folder)
    last: list[str] = []
    for _ in range(count):
        old = rng.choice(last) if last and rng.random() < near else None
        text = _changed(rng, known, old) if old else _fresh(rng, known)
        if len(last) < WINDOW:
            last.append(text)
        else:
            last[rng.randrange(WINDOW)] = text
        yield text


def _fresh(rng: random.Random, known: Sequence[list[str]]) -> str:
    kind = rng.random()
    if kind < 0.45:
        return re.sub(r"\{\}", lambda _: _span(rng, known, 2, 9), rng.choice(FRAMES))
    if kind < 0.8:
        return _span(rng, known, 5, 16).capitalize() + "."
    return f"{_span(rng, known, 10, 30).capitalize()}. {_span(rng, known, 10, 30).capitalize()}."


def _span(rng: random.Random, known: Sequence[list[str]], least: int, most: int) -> str:
    words = rng.choice(known)
    length = min(rng.randint(least, most), len(words))
    start = rng.randint(0, len(words) - length)
    span = words[start : start + length]
    span[rng.randrange(length)] = rng.choice(rng.choice(known))
    return " ".join(span)


def _changed(rng: random.Random, known: Sequence[list[str]], text: str) -> str:
    words = text.split()
    for _ in range(rng.choice((1, 1, 2))):
        change, place = rng.randrange(5), rng.randrange(len(words))
        other = rng.choice(rng.choice(known))
        if change == 0:
            words[place] = other
        elif change == 1:
            words.append(other)
        elif change == 2 and len(words) > 4:
            del words[place]
        elif change == 3:
            words[-1] = words[-1].rstrip(".?") + "!"
        else:
            words[0] = words[0].upper()
    return " ".join(words)


def write_instructions(path: Path, texts: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for text in texts:
            out.write(
                json.dumps({"instruction": text, "input": "", "output": "…"}, ensure_ascii=False) + "\n"
            )


# Conversations.


@dataclass(frozen=True)
class Message:
    text: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Conversation:
    record: dict[str, Any]
    blocks: tuple[Block, ...]


class Conversations:
    def __init__(self, folder: Path) -> None:
        self._pieces = list(_pieces(folder))
        self._programs = [*_programs(folder), *AWKWARD]
        self._known = sentences(folder)

    def make(self, number: int) -> Conversation:
        rng = random.Random(SEED * 1_000_003 + number)
        turns: list[dict[str, str]] = []
        blocks: list[Block] = []
        if rng.random() < 0.02:  # as some real ones are: cut at the beginning
            turns.append({"from": "gpt", "value": "<p>So, as I said before.</p>"})
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
            for question, answer in rng.choice(self._pieces):
                asked, said = self._varied(rng, question), self._answered(rng, answer)
                turns += [{"from": "human", "value": asked.text}, {"from": "gpt", "value": said.text}]
                blocks += [*asked.blocks, *said.blocks]
        return Conversation({"id": f"c{number}", "conversations": turns}, tuple(blocks))

    def _varied(self, rng: random.Random, message: Message) -> Message:
        return Message(f"{_span(rng, self._known, 4, 12).capitalize()}. {message.text}", message.blocks)

    def _answered(self, rng: random.Random, message: Message) -> Message:
        parts = [message.text, render(_span(rng, self._known, 8, 30).capitalize() + ".")]
        blocks = list(message.blocks)
        if rng.random() < 0.25:
            program = rng.choice(self._programs)
            block = Block(program.language, f"{program.code}\n\n    {rng.randrange(10**9)}")
            blocks.append(block)
            parts.append(block.html())
        return Message(
            f'<div class="markdown prose w-full break-words">{"".join(parts)}</div>', tuple(blocks)
        )


def write_conversations(path: Path, conversations: Conversations, count: int) -> None:
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            out.write("[\n" if number == 0 else ",\n")
            json.dump(conversations.make(number).record, out, ensure_ascii=False)
        out.write("\n]\n")


def write_bytes(path: Path, conversations: Conversations, size: int) -> int:
    written = number = 0
    with path.open("wb") as out:
        while written < size:
            line = json.dumps(conversations.make(number).record, ensure_ascii=False) + "\n"
            written += out.write(line.encode())
            number += 1
    return number


@cache
def paths(folder: Path) -> list[list[dict[str, Any]]]:
    trees = _lines(folder / "conversations" / "oasst_en_100_trees.jsonl")
    return [path for tree in trees for path in _down(tree["prompt"])]


def _down(message: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    if not message["replies"]:
        yield [message]
    for reply in message["replies"]:
        yield from ([message, *path] for path in _down(reply))


def _pieces(folder: Path) -> Iterator[list[tuple[Message, Message]]]:
    dummy = json.loads((folder / "conversations" / "dummy_conversation.json").read_text("utf-8"))
    said = [[turn["value"] for turn in each["conversations"]] for each in dummy]
    said += [[message["text"] for message in path] for path in paths(folder)]
    for texts in said:
        pairs = zip(texts[0::2], texts[1::2], strict=False)
        yield [(_asked(question), _answer(answer)) for question, answer in pairs]


def _asked(text: str) -> Message:
    """Return a person's message. If fences are unclosed, backticks are replaced, so the text has no code."""
    return (
        Message(text, tuple(fences_of(text)))
        if text.count("```") % 2 == 0
        else _asked(text.replace("`", "'"))
    )


def _answer(markdown: str) -> Message:
    parts = list(cut(markdown))
    html = "".join(part.html() if isinstance(part, Block) else render(part) for part in parts)
    return Message(html, tuple(part for part in parts if isinstance(part, Block)))


def _programs(folder: Path) -> Iterator[Block]:
    with gzip.open(folder / "code" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        for each in map(json.loads, lines):
            yield Block("python", (each["prompt"] + each["canonical_solution"]).strip("\n"))
    for each in _lines(folder / "code" / "drrepair_dev_1000.jsonl"):
        code = "\n".join("    " * line["indent"] + line["code"] for line in each["gold_code_lines"])
        yield Block(
            "cpp", f"#include <iostream>\n#include <vector>\n\nusing namespace std;\n\n{code}".rstrip()
        )


AWKWARD = (
    Block(
        "typescript",
        "const by: Map<string, Array<number>> = new Map();\nif (a < b && b > c) {\n\treturn `${a}_${b}`;\n}",
    ),
    Block("html", '<div class="a">\n  <p>1 &lt; 2 &amp; 3</p>\n\n\n  <span>*not* _emphasis_</span>\n</div>'),
    Block("makefile", "all:\n\t@echo done\n\n\nclean:\n\trm -f *.o"),
    Block("markdown", "# Title\n\n```python\nprint('a fence in a fence')\n```\n\n1. one\n2. two"),
    Block("bash", "cat <<EOF > a_b_c.txt\n$HOME \\ `date`\nEOF\n# Copy code from here\ncp -r ~/x/* ."),
    Block("", "plain text, no language\n   three blanks before\n\n\n\nfour lines after"),
)
"""Code that HTML converters are known to damage, written for this benchmark."""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
