"""The options of `redraft diagnose --run` and `redraft arbiter`. Imported for their `--help`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from redraft.evaluation.diagnosis import SAMPLES, SEEDS
from redraft.options import Flags, option
from redraft.revision.runs.options import RUN, SpendOptions

WITH_RUN = "With --run"  # a heading


class DiagnoseOptions(SpendOptions, Flags):
    """The options of `diagnose`, of which all but `quiet` are for `--run`."""

    OWN_DEFAULTS: ClassVar[Mapping[str, Any]] = {"max_revisions": 1}
    IN_RECIPES = Flags

    run: str | None = option("answer the task's file in several ways, and compare them", WITH_RUN, "TASK")
    out: str | None = option("where the runs go", WITH_RUN, "FOLDER", "-o")
    seeds: int = option("rounds over the records", WITH_RUN, "N", default=SEEDS, ge=1)
    samples: int = option(
        "most answers of best of N and of a majority vote", WITH_RUN, "N", default=SAMPLES, ge=2
    )
    limit: int | None = option("only the first N records", WITH_RUN, "N", ge=1)


class CompareOptions(SpendOptions, Flags):
    """The options of `arbiter compare`."""

    OWN_DEFAULTS: ClassVar[Mapping[str, Any]] = {"max_revisions": 1}
    IN_RECIPES = Flags

    models: list[str] | None = option("the models, with commas or repeated [--model]", RUN, "MODEL,…")
    tasks: list[str] | None = option(
        "TASK:FILE, a file of prompts with checks, or add, dates … (docs/arbiter.md)", RUN, "TASK,…"
    )
    ways: str = option("the ways", RUN, "WAY,…", default="one,revise,alone,vote,best")
    seeds: int = option("rounds over the prompts", RUN, "N", default=SEEDS, ge=1)
    samples: int = option("most answers of best of N and a vote", RUN, "N", default=2 * SAMPLES, ge=2)
    limit: int | None = option("only the first N prompts of each task", RUN, "N", ge=1)
