"""The options of `redraft generate instructions`, for flags, recipes and Python. Imported for `--help`."""

from __future__ import annotations

from typing import Annotated, Literal

from redraft.options import MAX_SEED, SAMPLING, SERVER, MachineOptions, ModelOption, Option, ServerOptions

Way = Literal["alpaca", "self-instruct"]

TASKS = "Tasks"
"""The heading of the flags that say what to generate."""

LEAST_WORDS, MOST_WORDS = 4, 150
"""Alpaca drops instructions of 3 words or fewer, and of over 150 (`generate_instruction.py`)."""

SIMILAR = 0.7
"""The ROUGE-L F of Alpaca and Self-Instruct above which an instruction is not new."""


class TaskOptions(MachineOptions, ServerOptions, total=False):
    """The options but the model."""

    way: Annotated[
        Way,
        Option(
            "alpaca: a list of tasks a request; self-instruct: instructions, then their kind, then their "
            "inputs and outputs",
            "alpaca",
            TASKS,
            "WAY",
        ),
    ]
    count: Annotated[int, Option("instructions wanted in all", 100, TASKS, "N", "-n", ge=1)]
    seeds: Annotated[
        str | None, Option("a file of tasks to begin with [20 that are shipped]", None, TASKS, "FILE")
    ]
    language: Annotated[
        str, Option("of instructions, inputs and outputs: a name or a code", "English", TASKS, "NAME")
    ]
    topic: Annotated[str | None, Option("what all tasks are about", None, TASKS, "TEXT")]
    least_words: Annotated[int, Option("fewest words of an instruction", LEAST_WORDS, TASKS, "N", ge=1)]
    most_words: Annotated[int, Option("most words of an instruction", MOST_WORDS, TASKS, "N", ge=1)]
    similar: Annotated[
        float, Option("drop an instruction with a ROUGE-L above this", SIMILAR, TASKS, "F", ge=0, le=1)
    ]
    temperature: Annotated[
        float,
        Option("0 is greedy [alpaca: 1, self-instruct: 0.7]", None, SAMPLING, "T", ge=0, lt=100),
    ]
    top_p: Annotated[
        float, Option("nucleus size [alpaca: 1, self-instruct: 0.5]", None, SAMPLING, "P", gt=0, le=1)
    ]
    max_tokens: Annotated[
        int,
        Option("most new tokens of a reply [alpaca: 3072, self-instruct: 1024]", None, SAMPLING, "N", gt=0),
    ]
    seed: Annotated[int, Option("makes a run repeatable", 0, SAMPLING, "N", ge=0, le=MAX_SEED)]
    price: Annotated[
        str,
        Option("USD per million tokens, unless the config file says", None, SERVER, "IN,OUT[,CACHED]"),
    ]


class InstructionOptions(TaskOptions, ModelOption, total=False):
    """The options of `redraft generate instructions`."""
