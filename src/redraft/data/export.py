"""Write the records of a file in the format of another program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, Unpack

from redraft.chain import Chain, has_answer
from redraft.chain.loss_mask import rejected
from redraft.chain.read.conversations import asks
from redraft.chain.read.files import to_line
from redraft.chain.read.records import Ids
from redraft.chain.write import ARRAYS, MAKERS, NO_QUESTION, REJECTED, Loss, Unfit, losses
from redraft.data.output import DataOptions, DataResult, DataRun, Drop, writing
from redraft.jobs.counting import counted
from redraft.jobs.formats import ExportFormat
from redraft.jobs.licences import UNKNOWN, licence_in

_LOST: dict[Loss, tuple[str, str]] = {
    "answers": ("answers after the exported one are left out of", "selfee, for revisions"),
    "fields": ("other fields of messages, such as a weight, are left out of", "messages"),
    "tools": ("tools are left out of", "messages"),
    "turns": ("the turns become one instruction in", "messages or sharegpt"),
}
"""For each kind of loss, the message about the loss, and the formats that avoid the loss."""


def export(
    source: str | Path, out: str | Path, to: ExportFormat, **options: Unpack[DataOptions]
) -> DataResult:
    """Write chains in another program's format, and report what is lost. Same as `redraft data export`."""
    run = DataRun.of(out, options, export)
    work, lines = partial(exported, to=to), run.lines(source)
    provenance = run.provenance("data export", source, to=to)
    lost, licences = Counter[Loss](), Counter[str]()

    def counted_records(records: Iterable[Exported]) -> Iterator[Exported]:
        for record in records:
            lost.update(record.lost)
            licences[record.licence] += 1
            yield record

    with writing(provenance, run, about=lambda: {"licences": dict(licences)}) as output:
        records = with_unique_ids(counted_records(output.passing(output.spread(work, lines))))
        write_records(output.sink, records, array=to in ARRAYS)
    output.tell_counts()
    for part, many in sorted(lost.items()):
        said, keeps = _LOST[part]
        run.tell(f"{said} {counted(many, 'record')}.", f"To keep these {part}: --to {keeps}")
    counts = {"records": output.kept} | {str(part): many for part, many in lost.items()}
    return output.result(counts, exit_status=0 if output.kept else 1)


class Exported(NamedTuple):
    """A record in another format, as JSON with a line feed."""

    data: bytes
    own: str | int | None  # the id in the record; None if the format has none
    id: str
    lost: frozenset[Loss] = frozenset()
    licence: str = UNKNOWN


def exported(chain: Chain, where: str, *, to: ExportFormat) -> Exported | Drop:
    """Convert a record to another format, or return a `Drop` if the format cannot store the record."""
    made = MAKERS[to](chain) if asks(chain.prompt) else NO_QUESTION
    one = to in ("alpaca", "sharegpt", "messages")  # these formats cannot mark an answer as rejected
    best = chain.steps[chain.best] if one and chain.best is not None else None
    if best and not isinstance(made, Unfit) and has_answer([best]) and rejected(best):
        made = REJECTED
    if isinstance(made, Unfit):
        return Drop(made.rule, made.reason, where, chain.id, chain.model_dump(mode="json"))
    licence = licence_in(chain.meta.get("origin"))
    return Exported(to_line(made), made.get("id"), chain.id, losses(chain, to), licence)


def with_unique_ids(records: Iterable[Exported]) -> Iterator[bytes]:
    """Yield the records as lines, and replace repeated ids."""
    ids = Ids()
    for record in records:
        own = str(record.own)
        name = own if record.own is None else ids.new(own)
        if name == own:
            yield record.data
        else:
            name = name if record.id == own else ids.new(record.id)
            yield to_line({**json.loads(record.data), "id": name})


def write_records(sink: IO[bytes], records: Iterable[bytes], *, array: bool) -> None:
    """Write records, one per line, as JSON Lines or as a JSON array."""
    if not array:
        sink.writelines(records)
        return
    before = b"["
    for record in records:
        sink.write(before + b"\n" + record.removesuffix(b"\n"))
        before = b","
    sink.write(b"[]\n" if before == b"[" else b"\n]\n")
