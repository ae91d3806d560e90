"""Define the options of runs that make a file: parallel work, stored replies and limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator

from redraft.options import A_HOOK, BATCHES, LIMITS, RUN, EvalFlags, Flags, OptionModel, is_async, option

PARALLEL = 4  # default number of chains at once. More is faster on a GPU or a server.
IN_BATCHES = 1000  # default number with batches. All these chains wait together, and each takes some memory.


def _path(value: Any) -> Path | None:
    if value is not None and (not isinstance(value, str | Path) or not str(value)):
        raise ValueError
    return None if value is None else Path(value)


def _function(value: Any) -> Any:
    if value is not None and (not callable(value) or is_async(value)):
        raise ValueError
    return value


A_PATH = PlainValidator(_path, json_schema_input_type=str | Path | None)
"""A validator that reads a path, for use in `Annotated`."""


class SpendOptions(OptionModel):
    """Options of a run: how many items to make in parallel, and limits."""

    parallel: int | None = option(f"make N items at once [{PARALLEL}]", RUN, "N", "-j", ge=1)
    quiet: bool = option("show no progress and no summary", RUN, short="-q", default=False)
    limit_usd: float | None = option("maximum cost of the run; needs a price", LIMITS, "USD", gt=0)
    limit_tokens: int | None = option("maximum tokens that the run generates", LIMITS, "N", gt=0)
    limit_seconds: float | None = option("maximum wall-clock time of the run", LIMITS, "S", gt=0)


class RunOptions(SpendOptions):
    """The options of every run that makes a file."""

    batch: bool = option("use the server's batch API: cheaper, but slower", BATCHES, default=False)
    pause: float | None = option("wait at most S seconds between polls of a batch [60]", BATCHES, "S", gt=0)
    on_event: Annotated[Callable[[Any], object] | None, PlainValidator(_function)] = option(
        "a function to call with the run's progress and messages, which are then not shown", what=A_HOOK
    )


class ItemOptions(RunOptions):
    """The options of a run over the items of a file."""

    shard: str | None = option("make share I of N, numbered from 0 [all]", RUN, "I/N")


class FileOptions(ItemOptions):
    """The options of a run that answers the records of a file."""

    limit: int | None = option("use only the first N records", RUN, "N", ge=1)
    cache: Annotated[Path | None, A_PATH] = option(
        "store replies in FILE, and send no request twice", RUN, "FILE", what="a path"
    )


class AnswerOptions(FileOptions, Flags):
    """The options of `answer_file`."""

    IN_RECIPES = Flags

    recipe: str | None = option("take options from a recipe: a YAML file, or a shipped one")


class EvalFileOptions(FileOptions, EvalFlags):
    """The options of `evaluate_file`."""

    IN_RECIPES = EvalFlags

    run_code: bool = option("let humaneval and mbpp run a model's programs in a sandbox", RUN, default=False)
