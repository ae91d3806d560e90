"""The options of `redraft diagnose`. Imported for its `--help`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from redraft.options import A_REFERENCE, Flags, option
from redraft.revision.runs.options import SpendOptions

WITH_TASKS = "With --tasks"  # a heading


class DiagnoseOptions(SpendOptions, Flags):
    """The options of `diagnose`. All but `quiet` are for `--tasks`."""

    OWN_DEFAULTS: ClassVar[Mapping[str, Any]] = {"max_revisions": 1}
    IN_RECIPES = Flags

    tasks: list[str] | None = option(
        "TASK:FILE, a file of prompts with checks, or add, dates …: answer them", WITH_TASKS, "TASK,…"
    )
    models: list[str] | None = option("the models, with commas or repeated [--model]", WITH_TASKS, "MODEL,…")
    ways: str = option("the ways", WITH_TASKS, "WAY,…", default="one,revise,alone,vote,best")
    seeds: int = option("rounds over the prompts", WITH_TASKS, "N", default=3, ge=1)
    samples: int = option("most answers of best of N and a vote", WITH_TASKS, "N", default=8, ge=2)
    equal: Literal["tokens", "seconds", "money"] = option(
        "compare ways at equal tokens, seconds or money", WITH_TASKS, "WHAT", default="tokens"
    )
    choose: str | None = option(
        "find the best way, with as few prompts as it takes, and write this recipe", WITH_TASKS, "FILE"
    )
    judge: str | None = option("with --choose: compares the answers", WITH_TASKS, "REF", what=A_REFERENCE)
    margin: float = option(
        "with --choose: another way may have more answers right, by less than N points",
        WITH_TASKS,
        "N",
        default=5.0,
        gt=0,
        le=50,
    )
    limit: int | None = option("only the first N prompts of each task", WITH_TASKS, "N", ge=1)
