"""`redraft data split`: cut long conversations to the length of a training sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from redraft.cli.data import common
from redraft.cli.data.common import Flags, Source
from redraft.cli.data.tokens import Tokenizer, token_count, tokenizer_fingerprint
from redraft.formats import TrainingFormat

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from redraft.collect.clean.split import Done
    from redraft.collect.output import Drop


def split(
    file: Source,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Most tokens of a piece.")] = 2048,
    tokenizer: Tokenizer = "default",
    form: Annotated[
        TrainingFormat,
        typer.Option("--format", help="The training text to count, as in `train sft`."),
    ] = "selfee",
    too_long: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="What to do with a single exchange over the limit."),
    ] = "keep",
    *,
    flags: Flags,
) -> None:
    """Split long conversations at their turns.

    Each piece begins with a user's turn and repeats the system message. No turn is lost. The pieces of ID
    are ID#1, ID#2 … Tokens are those of the training text: --format is the one of redraft train sft, and chat
    leaves 6 tokens a turn for the model's template.
    """
    from collections import Counter
    from functools import partial

    from redraft.collect.clean.split import split_line
    from redraft.jobs.provenance import Provenance

    lines = common.lines_in(file)
    count = token_count(tokenizer)
    work = partial(
        split_line, count=count, limit=limit, format=form, drop=too_long == "drop", strict=flags.strict
    )
    total: Counter[str] = Counter()
    config = {"limit": limit, "tokenizer": tokenizer, "format": form, "too_long": too_long}
    config["strict"] = flags.strict
    provenance = Provenance("data split", config, file)

    def about() -> dict[str, Any]:
        return {"tokenizer": tokenizer_fingerprint(count.path)}

    with common.writing(provenance, flags, about=about) as output:
        output.sink.writelines(output.passing(_pieces(output.spread(work, lines), total)))
    output.tell_counts()
    output.tell(f"{total['split']:,} split, {total['too long']:,} kept that are over {limit:,} tokens")


def _pieces(done: Iterable[Done], total: Counter[str]) -> Iterator[bytes | Drop]:
    """Give the pieces and drops of all records, and count them."""
    for record in done:
        total.update(record.counts)
        yield from record.lines
        yield from record.drops
