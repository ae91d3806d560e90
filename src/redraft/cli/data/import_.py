"""`redraft data import`: read published files as chains with their origin and licence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.data import common
from redraft.cli.data.common import Flags
from redraft.cli.shell import tell

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from redraft.collect.output import Drop
    from redraft.collect.read.inputs import Input
    from redraft.collect.read.published import Imported, ImportItem

KINDS, FIELDS = 1000, 8  # sets of unused fields to count apart, and fields to name

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH",
        help="Files of JSON lines, JSON, CSV, Parquet or Arrow, also .gz and .zst; folders of them; "
        "a dataset saved on disk, or org/name or org/name/part of the hub; '-' is stdin.",
    ),
]
Named = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="The source, if the fields do not reveal it: alpaca, sharegpt, gpt4all, questions …",
        show_default=False,
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TARGET=FIELD,…",
        help="Read other fields: instruction=question,reference=answer.",
        show_default=False,
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Override the source's licence.", show_default=False),
]
Which = Annotated[
    Literal["best", "all"], typer.Option("--paths", help="Read the best path of a tree, or every path.")
]
Questions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Questions for answer files, joined by question_id or id.",
        show_default=False,
    ),
]


def import_(
    paths: Paths,
    name: Named = None,
    fields: Map = None,
    licence: Licence = None,
    which: Which = "best",
    questions: Questions = None,
    *,
    flags: Flags,
) -> None:
    """Read published data as chains.

    The fields of a record, or --map, decide how it is read. Gold answers, rationales and tests are kept for
    training and checking, together with each record's origin and licence.
    """
    from collections import Counter

    from redraft.collect.read import published
    from redraft.collect.read.fieldmap import parse_map
    from redraft.collect.read.inputs import inputs_of
    from redraft.errors import UsageError
    from redraft.jobs.provenance import Provenance
    from redraft.licences import UNKNOWN

    if fields and which == "all":
        raise UsageError("--paths does nothing with --map.", hint="A map reads one chain from each record.")
    asked = [questions] if questions else []
    common.not_twice(paths[0], [*paths[1:], *asked])
    reader = published.Reader(
        source=published.source_named(name).name if name else None,
        licence=licence,
        fields=parse_map(fields) if fields else None,
        paths=which,
        questions=published.questions_in(questions) if questions else {},
    )
    _check_paths(paths)
    inputs = {str(path): list(map(_with_licence, inputs_of(path))) for path in paths}
    files = [file for path in paths for file in inputs[str(path)]]
    licences, unread, nulled = Counter[str](), Counter[str](), Counter[bool]()
    read: dict[str, int] = {}
    unanswered: Counter[tuple[str, ...]] = Counter()
    config = {"as": name, "licence": licence, "map": fields, "paths": which, "strict": flags.strict}
    for dataset in dict.fromkeys(file.dataset for file in files if file.offline and not flags.quiet):
        tell(f"{dataset}: the hub cannot be reached; reading the copy in its cache on this machine.")
    with common.writing(
        Provenance("data import", config),
        flags,
        reads=[file.path for file in files],
        beside=asked,
        about=lambda: _reads(output, inputs, questions),
    ) as output:
        items = output.watch(_numbered(published.items_in(files), read, output))
        many = common.processes(flags.workers)
        results = published.import_all(items, reader, workers=many, strict=flags.strict)
        kept = output.passing(_noted(results, unread))
        output.sink.writelines(_lines(kept, licences, unanswered, nulled))
        _check_one(output, name, questions)
    output.tell_counts()
    if output.gone.counts[published.NO_QUESTION]:
        output.tell(*_unasked(output, questions))
    if licences[UNKNOWN]:
        hint = "Name the source with --as, or the licence with --licence."
        output.tell(f"{licences[UNKNOWN]:,} of unknown licence", hint)
    if unanswered:
        output.tell(*_unanswered(unanswered))
    if nulled[True]:
        output.tell(f"{nulled[True]:,} with NaN or infinity, which JSON does not have: replaced by null")
    _check_each(read, unread, name)


def _with_licence(file: Input) -> Input:
    """Return a file with the licence that the record beside it says, if it has no other."""
    from redraft.jobs.provenance import licences_beside

    return file._replace(licence=file.licence or ", ".join(licences_beside(file.path)) or None)


def _lines(
    results: Iterable[Imported],
    licences: Counter[str],
    unanswered: Counter[tuple[str, ...]],
    nulled: Counter[bool],
) -> Iterator[bytes]:
    """Give the records as lines. Count licences, and records without an answer by their unused fields."""
    for each in results:
        licences[each.licence] += 1
        nulled[each.nulled] += 1
        if each.unanswered:
            # A hostile file may have new names in every record.
            unanswered[each.unused if len(unanswered) < KINDS else ()] += 1
        yield each.json + b"\n"


def _numbered(
    items: Iterable[ImportItem], read: dict[str, int], output: common.DataOutput
) -> Iterator[ImportItem]:
    """Give the items. Note the number of records and the length of each file that was read."""
    from itertools import groupby

    from redraft.formats.read.files import name_of

    for path, group in groupby(items, lambda item: item.file.path):
        name = name_of(path)
        for item in group:
            read[name] = item.number + 1
            yield item
        output.note_length(path)


def _noted(results: Iterable[Imported | Drop], unread: Counter[str]) -> Iterator[Imported | Drop]:
    """Give the results, and count the unreadable records of each file."""
    from redraft.collect.output import UNREADABLE, Drop

    for each in results:
        if isinstance(each, Drop) and each.rule == UNREADABLE:
            unread[each.where.rpartition(":")[0]] += 1
        yield each


def _check_each(read: Mapping[str, int], unread: Mapping[str, int], name: str | None) -> None:
    """Raise if no record of some file could be read, though other files were.

    Raises:
        RecordError: The message names these files.
    """
    from redraft.errors import RecordError

    wrong = [file for file, count in read.items() if count == unread.get(file)]
    if wrong:
        lines = [f"{file}: none of its records could be read ({read[file]:,})." for file in wrong]
        raise RecordError("\n  ".join(lines), hint=f"The other files are in the output. {_another_way(name)}")


def _check_one(output: common.DataOutput, name: str | None, questions: Path | None) -> None:
    """Raise if nothing could be imported.

    Raises:
        RecordError: All files are damaged from the first record.
        UsageError: No record could be read.
    """
    from redraft.collect.read.published import NO_QUESTION
    from redraft.errors import RecordError, UsageError

    if output.kept or not output.gone.counts:
        return
    if output.gone.damage:
        raise RecordError("\n  ".join([*output.gone.damage, "no other record could be read."]))
    if output.gone.counts[NO_QUESTION]:
        text, hint = _unasked(output, questions)
        raise UsageError(f"{text}.", hint=hint)
    raise UsageError("no record could be read.", hint=_another_way(name))


def _unasked(output: common.DataOutput, questions: Path | None) -> tuple[str, str]:
    """Return the message about answers without a question, and its hint."""
    from redraft.collect.read.published import NO_QUESTION

    many = output.gone.counts[NO_QUESTION]
    text = f"{many:,} answer{'' if many == 1 else 's'} without a question, left out"
    if questions:
        return text, f"{questions} has no question with the same id."
    return text, "redraft data import ANSWERS --questions QUESTIONS joins them by question_id."


def _another_way(name: str | None) -> str:
    """Return a hint for records of an unexpected shape."""
    way = "Name the fields: --map instruction=…"
    return f"Without --as {name}, redraft recognises records by their fields. {way}" if name else way


def _unanswered(unanswered: Counter[tuple[str, ...]]) -> tuple[str, str | None]:
    """Return the message about records without an answer, and its hint.

    It names the fields that may hold the answer, the most frequent first.
    """
    fields = list(dict.fromkeys(name for unused, _ in unanswered.most_common() for name in unused))
    many = unanswered.total()
    text = f"{many:,} record{'' if many == 1 else 's'} without an answer"
    if not fields:
        return text, None
    hint = "If one of them is the answer: --map instruction=FIELD,reference=FIELD"
    return f"{text}; fields not used: {', '.join(fields[:FIELDS])}", hint


def _reads(
    output: common.DataOutput, inputs: Mapping[str, Sequence[Input]], questions: Path | None
) -> dict[str, object]:
    """Return the fingerprints of the paths that the user gave."""
    asked = {"questions": output.fingerprint([questions])} if questions else {}
    found = []
    for path, files in inputs.items():
        paths = [file.path for file in files]
        several = {} if [*map(str, paths)] == [path] else {"files": len(files)}
        revision = {"revision": files[0].revision} if several and files[0].revision else {}
        found.append({**output.fingerprint(paths, path if several else None), **several, **revision})
    return {"inputs": found, **asked}


def _check_paths(paths: list[Path]) -> None:
    """Raise if a source is named as if it were a file."""
    from redraft.collect.read.published import SOURCES
    from redraft.errors import UsageError

    for path in paths:
        if str(path) in SOURCES and not path.exists():
            raise UsageError(
                f"{path} is a source, and there is no file of that name.",
                hint=f"redraft data import FILE --as {path}",
            )
