"""Makes material for `redraft arbiter`: small tasks with checks, and runs of exercises.

    python benchmarks/arbiter.py tasks FOLDER   writes FOLDER/length.jsonl and others: one demand a prompt
    python benchmarks/arbiter.py fresh FOLDER   lets both models answer five exercises: half an hour
    redraft arbiter FOLDER; redraft arbiter verify FOLDER

docs/arbiter.md publishes the figures of the second one, which writes FOLDER/circumstances.json too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from redraft.engines import default
from redraft.jobs.files import sha256_of

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

EXERCISES = ("add", "subtract", "dates")
HOW = (
    *("--ways", "one,revise,alone,vote,best", "--limit", "30", "--seeds", "1", "--samples", "4"),
    *("--max-tokens", "192", "--engine", "openvino", "-j", "32"),
)


def records(prompt: str, check: str) -> list[dict[str, object]]:
    """Returns the records of a task, one for each thing."""
    found = []
    for number, thing in enumerate(THINGS):
        values = {"thing": thing, "word": WORDS[number % len(WORDS)]}
        values |= {"few": str(2 + number % 3), "most": str(10 + 5 * (number % 4))}
        found.append({"prompt": prompt.format(**values), "checks": [check.format(**values)]})
    return found


def write_tasks(folder: Path) -> None:
    """Writes all tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (prompt, check) in TASKS.items():
        write(folder / f"{name}.jsonl", records(prompt, check))


def write(file: Path, found: list[dict[str, object]]) -> None:
    """Writes records."""
    file.write_text("".join(f"{json.dumps(record)}\n" for record in found))


def fresh(folder: Path) -> None:
    """Answers exercises with the default model, with and without its adapters. The same command goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    adapters = {file.name: sha256_of(file) for file in sorted(Path(default.__path__[0]).glob("*.gguf"))}
    about = {"adapters": adapters, "load": os.getloadavg(), "processor": platform.processor()}
    (folder / "circumstances.json").write_text(json.dumps(about, indent=1))
    for task in EXERCISES:
        command = ["arbiter", folder, "--models", "default,default-base", "--tasks", task, *HOW]
        subprocess.run([sys.executable, "-m", "redraft", *map(str, command)], check=True)


if __name__ == "__main__":
    makers = {"tasks": write_tasks, "fresh": fresh}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=makers)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    makers[asked.what](asked.folder)
