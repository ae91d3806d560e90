"""Write the HTML page (`index.html`) and the model card (`README.md`) of a run.

Page and card show the inputs and the time of each stage, the stages' reports, and all licences. The page
links to HTML pages written by stages.
"""

from __future__ import annotations

import json
from pathlib import Path

from redraft import __version__
from redraft.evaluation.pages.page import render
from redraft.evaluation.tables import Part
from redraft.jobs.counting import counted, size_in_words
from redraft.jobs.files import write_file
from redraft.jobs.licences import UNKNOWN, Source, clash, ids_of, remark
from redraft.jobs.progress import clock_time
from redraft.jobs.provenance import RunFile, licences_beside
from redraft.train.systems.plan import Kind, Ledger, Plan, Row, spent
from redraft.train.systems.recipe import System
from redraft.weights.card import card_text

PAGE, CARD = "index.html", "README.md"


def write_pages(system: System, ledger: Ledger, plan: Plan) -> Path:
    """Write the HTML page and the model card of a run, and return the path of the page."""
    sources = _sources(ledger.folder) or _files(system)
    title = f"{system.name}{', small' if system.small else ''}"
    parts = [_whole(ledger, plan), *(_of_stage(ledger, row) for row in plan.rows), _licences(sources)]
    page = render(title, system.about, parts, f"redraft {__version__} · {CARD} is the model card")
    write_file(ledger.folder / PAGE, page.encode())
    write_file(ledger.folder / CARD, _card(title, system, ledger, plan, sources).encode())
    return ledger.folder / PAGE


def _whole(ledger: Ledger, plan: Plan) -> Part:
    records = {row.stage.name: spent(ledger.record(row.stage).read()) for row in plan.rows}
    total = {name: sum(each[name] for each in records.values()) for name in ("seconds", "tokens", "usd")}
    disk = sum(each.stat().st_size for each in ledger.folder.rglob("*") if each.is_file())
    done = len(plan.rows) - len(plan.ahead)
    tiles = {
        "of work": clock_time(total["seconds"]),
        "new tokens": f"{total['tokens']:,.0f}",
        "USD": f"{total['usd']:,.2f}",
        "on the disk": size_in_words(disk),
    }
    lines = [
        (stage.name, clock_time(records[stage.name]["seconds"]), "", stage.made + ledger.edited(stage))
        for stage in (row.stage for row in plan.rows)
    ]
    return Part(verdict=f"{done} of {counted(len(plan.rows), 'stage')} done.", tiles=tiles, lines=lines)


def _of_stage(ledger: Ledger, row: Row) -> Part:
    stage, out = row.stage, ledger.out(row.stage)
    if row.state.kind is not Kind.DONE:
        return Part(title=stage.name, note=f"{row.state.kind.value}: {stage.made}")
    says = (ledger.record(stage).read() or {}).get("says") or ""
    pages = sorted({out, *out.parent.glob(f"{out.name}*.html")})
    texts = {name: ", ".join(map(str, v)) if isinstance(v, list) else v for name, v in stage.options.items()}
    plain = ((name, v if isinstance(v, str) else json.dumps(v)) for name, v in texts.items())
    facts = [("verb", stage.verb or stage.command), *plain, *[("result", says)] * bool(says)]
    links = [(each.name, each.relative_to(ledger.folder).as_posix()) for each in pages]
    return Part(title=stage.name, facts=facts, links=links)


def _sources(folder: Path) -> list[Source]:
    found = dict[Source, None]()
    for path in sorted(folder.rglob("*.run.json")):
        out = path.with_name(path.name.removesuffix(".run.json"))
        if path.relative_to(folder).parts[0] in (".run", "before"):
            continue
        sessions = (RunFile(out).read() or {}).get("sessions") or [{}]
        found |= dict.fromkeys(Source(**each) for each in sessions[-1].get("sources") or ())
    return list(found)


def _files(system: System) -> list[Source]:
    read = dict.fromkeys(name for stage in system.stages.values() for name in stage.reads)
    files = [file for name in read if (file := system.files.get(name))]
    return [
        Source("data", Path(file.path).name, licence)
        for file in files
        for licence in ([file.licence] if file.licence else licences_beside(Path(file.path)) or [UNKNOWN])
    ]


def _licences(sources: list[Source]) -> Part:
    if not sources:
        return Part(title="Licences", note="No stage recorded its sources.")
    said = remark(sources) or f"All sources have the same licence: {sources[0].licence}."
    once = {(f"{each.kind} {each.name}", *ids_of([each])): each.licence for each in reversed(sources)}
    facts = [(name, licence) for (name, *_), licence in reversed(once.items())]
    return Part(title="Licences", note=said, warns=clash(sources), facts=facts)


def _card(title: str, system: System, ledger: Ledger, plan: Plan, sources: list[Source]) -> str:
    lines = [card_text(title, sources), remark(sources), "", system.about, "", "## How it was made", ""]
    lines += ["| stage | verb | from | time |", "|---|---|---|---|"]
    for row in plan.rows:
        seconds = spent(ledger.record(row.stage).read())["seconds"]
        read = ", ".join(row.stage.reads)
        verb = f"`redraft {row.stage.verb}`" if row.stage.verb else "a command"
        verb += ledger.edited(row.stage)
        lines.append(f"| {row.stage.name} | {verb} | {read} | {clock_time(seconds)} |")
    lines += ["", f"`redraft run {system.name}{' --small' * system.small}`, redraft {__version__}.", ""]
    for row in plan.rows:
        says = (ledger.record(row.stage).read() or {}).get("says")
        if says and row.stage.verb in ("report", "eval", "train self"):
            lines += [f"## {row.stage.name}", "", "```text", says, "```", ""]
    return "\n".join(lines) + "\n"
