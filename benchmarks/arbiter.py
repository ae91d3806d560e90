"""Writes small tasks with checks for `redraft arbiter`, as docs/arbiter.md publishes them.

    python benchmarks/arbiter.py TASKS      writes TASKS/length.jsonl and the others
    redraft arbiter DIR --models default --tasks TASKS/length.jsonl,…

Each prompt names one demand, and a check holds an answer to it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

THINGS = (
    *("a river", "the moon", "a bakery", "a bicycle", "snow", "a library", "an old clock", "a garden"),
    *("the sea", "a train", "honey", "a mountain", "a market", "a lighthouse", "coffee", "a bridge"),
    *("a storm", "a school", "a violin", "an island", "bread", "a forest", "a letter", "a kitchen"),
)
WORDS = ("quiet", "seven", "green", "because", "morning", "small", "never", "stone")

TASKS = {
    "length": ("Describe {thing} in at most {most} words.", "words<={most}"),
    "sentences": ("Describe {thing} in exactly {few} sentences.", "sentences={few}"),
    "bullets": ("List {few} facts about {thing} as bullet points that begin with '-'.", "bullets={few}"),
    "word": ("Write a sentence about {thing} with the word '{word}' in it.", "contains:{word}"),
    "ending": ("Write two sentences about {thing}. The last word has to be '{word}'.", "ends:{word}."),
    "without": ("Describe {thing} without the word 'the'.", "lacks:the"),
}


def records(prompt: str, check: str) -> list[dict[str, object]]:
    """Returns the records of a task, one for each thing."""
    found = []
    for number, thing in enumerate(THINGS):
        values = {"thing": thing, "word": WORDS[number % len(WORDS)]}
        values |= {"few": str(2 + number % 3), "most": str(10 + 5 * (number % 4))}
        found.append({"prompt": prompt.format(**values), "checks": [check.format(**values)]})
    return found


def main(folder: Path) -> None:
    """Writes all tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (prompt, check) in TASKS.items():
        text = "".join(f"{json.dumps(record)}\n" for record in records(prompt, check))
        (folder / f"{name}.jsonl").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
