"""Define the options of `redraft judge` for flags and recipes. `--help` imports this module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from redraft import options
from redraft.options import A_REFERENCE, MAX_SEED, MODEL, RUN, SAMPLING, SERVER, TOKENS, option
from redraft.revision.runs.options import A_PATH, ItemOptions

JUDGING = "Judging"  # the heading of the flags on how to judge


class JudgeOptions(options.ServerOptions, options.MachineOptions):
    """The options that choose the judge and the judge's task."""

    model: str | None = option(
        "the judge: default, a GGUF file, org/name, http://host/v1#name", MODEL, "REF", "-m", what=A_REFERENCE
    )
    way: Literal["scores", "verdicts", "grades"] | None = option(
        "ask for scores (1 to 10 for each of two answers), verdicts (the better one or a tie) or grades (1 "
        "to 10 for a single answer) [scores; grades with one file]",
        JUDGING,
        "WAY",
    )
    orders: Literal["both", "given"] = option(
        "show each pair in both orders, or only with A first", JUDGING, "both|given", default="both"
    )
    gold: bool = option("show the judge the gold answers, if there are any", JUDGING, default=False)
    temperature: float | None = option("sampling temperature; 0 is greedy [0]", SAMPLING, "T", ge=0, lt=100)
    max_tokens: int | None = option("maximum new tokens per review [1024]", SAMPLING, "N", **TOKENS)
    seed: int | None = option("random seed, which makes a run repeatable", SAMPLING, "N", ge=0, le=MAX_SEED)
    price: str | None = option(
        "price in USD per million tokens, instead of that in the config file", SERVER, "IN,OUT[,CACHED]"
    )


class JudgeFileOptions(ItemOptions, JudgeOptions):
    """The options of `redraft judge`."""

    IN_RECIPES = JudgeOptions
    RECIPES = "judge"

    limit: int | None = option("judge only the first N questions", RUN, "N", ge=1)
    questions: Annotated[Path | None, A_PATH] = option(
        "read the questions from FILE, with their categories and gold answers", RUN, "FILE", what="a path"
    )
