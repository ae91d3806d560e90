"""Define the options of `redraft diagnose`. To keep `--help` fast, this module imports little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from redraft.options import A_REFERENCE, Flags, option
from redraft.revision.runs.options import SpendOptions

WITH_TASKS = "With --tasks"  # a heading


class DiagnoseOptions(SpendOptions, Flags):
    """The options of `redraft diagnose`. Most apply only with `--tasks` or `--choose`."""

    OWN_DEFAULTS: ClassVar[Mapping[str, Any]] = {"max_revisions": 1}
    IN_RECIPES = Flags

    tasks: list[str] | None = option(
        "answer these tasks: files of prompts with checks, TASK:FILE, exercises", WITH_TASKS, "TASK,…"
    )
    models: list[str] | None = option("models to compare; repeatable [--model]", WITH_TASKS, "MODEL,…")
    ways: str = option("answer in these ways", WITH_TASKS, "WAY,…", default="one,revise,alone,vote,best")
    seeds: int = option("answer the prompts N times, with different seeds", WITH_TASKS, "N", default=3, ge=1)
    samples: int = option("draw up to N answers for best of N and a vote", WITH_TASKS, "N", default=8, ge=2)
    equal: Literal["tokens", "seconds", "money"] = option(
        "compare ways at equal tokens, seconds or money", WITH_TASKS, "WHAT", default="tokens"
    )
    choose: str | None = option(
        "find the best way with as few prompts as needed, and write it to FILE", WITH_TASKS, "FILE"
    )
    judge: str | None = option("with --choose: let this model judge", WITH_TASKS, "REF", what=A_REFERENCE)
    margin: float = option(
        "with --choose: the best way may be ahead of the chosen one by less than N points",
        WITH_TASKS,
        "N",
        default=5.0,
        gt=0,
        le=50,
    )
    limit: int | None = option("use only the first N prompts of each task", WITH_TASKS, "N", ge=1)
