"""The options of `redraft generate instructions`, for flags, recipes and Python. Imported for `--help`."""

from __future__ import annotations

from typing import Literal

from redraft.options import MAX_SEED, SAMPLING, SERVER, MachineOptions, ModelOption, ServerOptions, option

Way = Literal["alpaca", "self-instruct"]

TASKS = "Tasks"
"""The heading of the flags that say what to generate."""

LEAST_WORDS, MOST_WORDS = 4, 150
"""Alpaca drops instructions of 3 words or fewer, and of over 150 (`generate_instruction.py`)."""

SIMILAR = 0.7
"""The ROUGE-L F of Alpaca and Self-Instruct above which an instruction is not new."""


class TaskOptions(ServerOptions, MachineOptions):
    """The options but the model."""

    way: Way = option(
        "alpaca: a list of tasks a request; self-instruct: instructions, then their kind, then their inputs "
        "and outputs",
        TASKS,
        "WAY",
        default="alpaca",
    )
    count: int = option("instructions wanted in all", TASKS, "N", "-n", default=100, ge=1)
    seeds: str | None = option("a file of tasks to begin with [20 that are shipped]", TASKS, "FILE")
    language: str = option(
        "of instructions, inputs and outputs: a name or a code", TASKS, "NAME", default="English"
    )
    topic: str | None = option("what all tasks are about", TASKS, "TEXT")
    least_words: int = option("fewest words of an instruction", TASKS, "N", default=LEAST_WORDS, ge=1)
    most_words: int = option("most words of an instruction", TASKS, "N", default=MOST_WORDS, ge=1)
    similar: float = option(
        "drop an instruction with a ROUGE-L above this", TASKS, "F", default=SIMILAR, ge=0, le=1
    )
    temperature: float | None = option(
        "0 is greedy [alpaca: 1, self-instruct: 0.7]", SAMPLING, "T", ge=0, lt=100
    )
    top_p: float | None = option("nucleus size [alpaca: 1, self-instruct: 0.5]", SAMPLING, "P", gt=0, le=1)
    max_tokens: int | None = option(
        "most new tokens of a reply [alpaca: 3072, self-instruct: 1024]", SAMPLING, "N", gt=0
    )
    seed: int = option("makes a run repeatable", SAMPLING, "N", default=0, ge=0, le=MAX_SEED)
    price: str | None = option(
        "USD per million tokens, unless the config file says", SERVER, "IN,OUT[,CACHED]"
    )


class InstructionOptions(ModelOption, TaskOptions):
    """The options of `redraft generate instructions`."""
