"""Import files: `redraft data import`, its counts, and what it says about data that it cannot use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Unpack

from redraft.chain import Prompt
from redraft.chain.read.files import name_of
from redraft.chain.read.inputs import inputs_of
from redraft.data.output import (
    UNREADABLE,
    DataOptions,
    DataOutput,
    DataResult,
    DataRun,
    Drop,
    not_twice,
    writing,
)
from redraft.data.read.published import (
    NO_QUESTION,
    SOURCES,
    Imported,
    ImportItem,
    Reader,
    import_all,
    items_in,
    parse_map,
    questions_in,
    source_named,
)
from redraft.errors import RecordError, UsageError
from redraft.jobs.counting import counted
from redraft.jobs.licences import UNKNOWN
from redraft.jobs.provenance import Provenance, fingerprint, licences_beside
from redraft.jobs.stores import here

KINDS, FIELDS = 1000, 8  # sets of unused fields to count apart, and fields to name


def import_files(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    fields: Sequence[str] | None = None,
    licence: str | None = None,
    which: Literal["best", "all"] = "best",
    questions: str | Path | None = None,
    **options: Unpack[DataOptions],
) -> DataResult:
    """Read files, folders or datasets of the hub as chains. As `redraft data import`.

    `name` is the source, if the fields do not reveal it; `fields` are maps, such as `instruction=question`;
    `which` paths of a tree are read. `questions` are joined with answers by `question_id` or `id`.
    """
    if fields and which == "all":
        raise UsageError("--paths does nothing with --map.", hint="A map reads one chain from each record.")
    places, run = [*map(here, paths)], DataRun.of(out, options, shares=True)
    asked = [Path(questions)] if questions else []
    not_twice(places[0], [*places[1:], *asked])
    reader = Reader(
        source=source_named(name).name if name else None,
        licence=licence,
        fields=parse_map(fields) if fields else None,
        paths=which,
        questions=questions_in(asked[0]) if asked else dict[str, Prompt](),
    )
    for place in places:
        if str(place) in SOURCES and not place.exists():
            raise UsageError(
                f"{place} is a source, and there is no file of that name.",
                hint=f"redraft data import FILE --as {place}",
            )
    # A file without a licence takes the one that OUT.run.json beside it has.
    found = {
        str(place): [
            file._replace(licence=file.licence or ", ".join(licences_beside(file.path)) or None)
            for file in inputs_of(place)
        ]
        for place in places
    }
    files = [file for each in found.values() for file in each]
    for dataset in dict.fromkeys(file.dataset for file in files if file.offline):
        run.tell(f"{dataset}: the hub cannot be reached; reading the copy in its cache on this machine.")
    listed = None if fields is None else list(fields)
    config = {"as": name, "licence": licence, "map": listed, "paths": which, "strict": run.strict}
    counts = _Counts(name, asked[0] if asked else None)

    def about() -> dict[str, Any]:
        inputs = []
        for path, inside in found.items():
            read = [file.path for file in inside]
            several = {} if [*map(str, read)] == [path] else {"files": len(inside)}
            revision = {"revision": inside[0].revision} if several and inside[0].revision else {}
            inputs.append({**fingerprint(read, path if several else None), **several, **revision})
        return {"inputs": inputs, **({"questions": fingerprint(asked)} if asked else {})}

    provenance, sizes = Provenance("data import", config), [file.path for file in files]
    with writing(provenance, run, reads=sizes, beside=asked, about=about) as output:
        watched = output.watch(counts.numbered(items_in(files)))
        items = run.ours(watched, lambda item: f"{item.file.stem}/{item.number}")
        results = import_all(items, reader, workers=run.processes, strict=run.strict)
        for each in output.passing(counts.noted(results)):
            output.sink.write(each.json + b"\n")
        counts.check(output)
    output.tell_counts()
    counts.tell(output)
    return output.result(
        {"unknown licence": counts.licences[UNKNOWN], "unanswered": counts.unanswered.total()}
    )


@dataclass
class _Counts:
    """What an import counts, to say what it could not use."""

    name: str | None  # the source that was named
    questions: Path | None  # the file of questions
    licences: Counter[str] = field(default_factory=Counter)
    # Records without an answer, by the fields that were not used.
    unanswered: Counter[tuple[str, ...]] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)  # records by file
    unread: Counter[str] = field(default_factory=Counter)

    def numbered(self, items: Iterable[ImportItem]) -> Iterator[ImportItem]:
        """Give the items, and count them by file."""
        for item in items:
            self.read[name_of(item.file.path)] += 1
            yield item

    def noted(self, results: Iterable[Imported | Drop]) -> Iterator[Imported | Drop]:
        for each in results:
            if not isinstance(each, Drop):
                self.licences[each.licence] += 1
                if each.unanswered:
                    # A hostile file may have new names in every record.
                    self.unanswered[each.unused if len(self.unanswered) < KINDS else ()] += 1
            elif each.rule == UNREADABLE:
                self.unread[each.where.rpartition(":")[0]] += 1
            yield each

    def check(self, output: DataOutput) -> None:
        """Raise if there is no record in the output."""
        if output.kept or not output.gone.counts:
            return
        if output.gone.damage:
            raise RecordError("\n  ".join([*output.gone.damage, "no other record could be read."]))
        if output.gone.counts[NO_QUESTION]:
            text, hint = self._unasked(output)
            raise UsageError(f"{text}.", hint=hint)
        raise UsageError("no record could be read.", hint=self._another_way)

    def tell(self, output: DataOutput) -> None:
        """Tell what was left out or is not known. Raise if no record of some file could be read."""
        tell = output.run.tell
        if output.gone.counts[NO_QUESTION]:
            tell(*self._unasked(output))
        if self.licences[UNKNOWN]:
            hint = "Name the source with --as, or the licence with --licence."
            tell(f"{self.licences[UNKNOWN]:,} of unknown licence", hint)
        if self.unanswered:
            # The fields that may hold the answer, the most frequent first.
            often = (name for unused, _ in self.unanswered.most_common() for name in unused)
            fields = ", ".join(list(dict.fromkeys(often))[:FIELDS])
            text = f"{counted(self.unanswered.total(), 'record')} without an answer"
            hint = "If one of them is the answer: --map instruction=FIELD,reference=FIELD"
            tell(f"{text}; fields not used: {fields}" if fields else text, hint if fields else None)
        wrong = [file for file, count in self.read.items() if count == self.unread[file]]
        if wrong:
            lines = [f"{file}: none of its records could be read ({self.read[file]:,})." for file in wrong]
            hint = f"The other files are in the output. {self._another_way}"
            raise RecordError("\n  ".join(lines), hint=hint)

    @property
    def _another_way(self) -> str:
        way = "Name the fields: --map instruction=…"
        known = f"Without --as {self.name}, redraft recognises records by their fields. "
        return known * bool(self.name) + way

    def _unasked(self, output: DataOutput) -> tuple[str, str]:
        text = f"{counted(output.gone.counts[NO_QUESTION], 'answer')} without a question, left out"
        if self.questions:
            return text, f"{self.questions} has no question with the same id."
        return text, "redraft data import ANSWERS --questions QUESTIONS joins them by question_id."
