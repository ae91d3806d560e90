"""Define the options of `redraft generate` for flags, recipes and Python. `--help` imports this module."""

from __future__ import annotations

from typing import Literal

from redraft import options
from redraft.data.generate import USUAL
from redraft.options import MAX_SEED, RUN, SAMPLING, SERVER, TOKENS, option
from redraft.revision.runs.options import ItemOptions, RunOptions

TEACHER = "Teacher"
"""The --help heading of the flags for the teacher."""


class ChainFlags(options.Flags):
    """The options of `generate chains` that a recipe may set."""

    gold: bool = option(
        "show the critic the record's gold answer, which the writer never sees", TEACHER, default=False
    )
    first: bool = option("take the first answer from the record", TEACHER, default=False)
    verify: Literal["number", "code"] | None = option(
        "let the record's gold number, or its code tests, decide the verdicts", TEACHER, "number|code"
    )


class ChainOptions(ItemOptions, ChainFlags):
    """The options of `generate chains`."""

    OWN_DEFAULTS = USUAL
    IN_RECIPES = ChainFlags
    RECIPES = "generate"
    NOT_OF_CONFIG = frozenset({"check"})  # checks of the config file would replace the critic

    limit: int | None = option("use only the first N records", RUN, "N", ge=1)
    run_code: bool = option("let `--verify code` run the model's programs in a sandbox", RUN, default=False)
    recipe: str | None = option("take options from a recipe: a YAML file, or a shipped one")


Way = Literal["alpaca", "self-instruct"]

_TASKS = "Tasks"  # the heading of the flags that say what to generate

SIMILAR = 0.7  # the ROUGE-L F of Alpaca and Self-Instruct above which an instruction is not new


class TaskFlags(options.ModelOption, options.ServerOptions, options.MachineOptions):
    """The options of `generate instructions` that a recipe may set."""

    way: Way = option(
        "how to ask: alpaca for a list of tasks at once; self-instruct for instructions, then their kind, "
        "then their inputs and outputs",
        _TASKS,
        "WAY",
        default="alpaca",
    )
    count: int = option("generate until there are N instructions", _TASKS, "N", "-n", default=100, ge=1)
    seeds: str | None = option("start from the tasks in FILE [20 shipped ones]", _TASKS, "FILE")
    language: str = option(
        "write all texts in this language: a name or an ISO 639 code", _TASKS, "NAME", default="English"
    )
    topic: str | None = option("ask only for tasks on this topic", _TASKS, "TEXT")
    similar: float = option(
        "drop an instruction if ROUGE-L with another exceeds this", _TASKS, "F", default=SIMILAR, ge=0, le=1
    )
    temperature: float | None = option(
        "sampling temperature; 0 is greedy [alpaca: 1, self-instruct: 0.7]", SAMPLING, "T", ge=0, lt=100
    )
    top_p: float | None = option(
        "nucleus sampling: probability mass kept [alpaca: 1, self-instruct: 0.5]", SAMPLING, "P", gt=0, le=1
    )
    max_tokens: int | None = option(
        "maximum new tokens of a reply [alpaca: 3072, self-instruct: 1024]", SAMPLING, "N", **TOKENS
    )
    seed: int = option("random seed; makes a run repeatable", SAMPLING, "N", default=0, ge=0, le=MAX_SEED)
    price: str | None = option(
        "price in USD per million tokens, instead of that in the config file", SERVER, "IN,OUT[,CACHED]"
    )


class InstructionOptions(RunOptions, TaskFlags):
    """The options of `generate instructions`."""

    IN_RECIPES = TaskFlags
    RECIPES = "instructions"

    recipe: str | None = option("take options from a recipe: a YAML file, or a shipped one")
