"""The options of `redraft judge`, for flags and recipes. Imported for `--help`."""

from __future__ import annotations

from typing import Annotated, Literal

from redraft.options import MAX_SEED, MODEL, SAMPLING, SERVER, MachineOptions, Option, ServerOptions

JUDGING = "Judging"
"""The heading of the flags that say what is asked of a judge."""


class JudgeOptions(MachineOptions, ServerOptions, total=False):
    """What is asked, of which judges."""

    model: Annotated[
        list[str],
        Option(
            "a judge: default, a GGUF file, org/name, http://host/v1#name; repeatable",
            None,
            MODEL,
            "REF",
            "-m",
        ),
    ]
    way: Annotated[
        Literal["scores", "verdicts", "grades"],
        Option(
            "scores: 1 to 10 for each of two answers; verdicts: the better one or a tie; grades: 1 to 10 for "
            "a single answer [scores, with one file grades]",
            None,
            JUDGING,
            "WAY",
        ),
    ]
    orders: Annotated[
        Literal["both", "given"],
        Option("show each pair in both orders, or A first only", "both", JUDGING, "both|given"),
    ]
    gold: Annotated[bool, Option("show the judge the gold answers, where there are some", None, JUDGING)]
    controls: Annotated[
        bool,
        Option(
            "judge constant answers, and A with an instruction to the judge, in A's place too", None, JUDGING
        ),
    ]
    temperature: Annotated[
        float, Option("0 is greedy [0, or as the reviewer's file says]", None, SAMPLING, "T", ge=0, lt=100)
    ]
    max_tokens: Annotated[
        int,
        Option(
            "most new tokens of a review [1024, or as the reviewer's file says]", None, SAMPLING, "N", gt=0
        ),
    ]
    seed: Annotated[int, Option("makes a run repeatable", None, SAMPLING, "N", ge=0, le=MAX_SEED)]
    price: Annotated[
        str,
        Option("USD per million tokens, unless the config file says", None, SERVER, "IN,OUT[,CACHED]"),
    ]
