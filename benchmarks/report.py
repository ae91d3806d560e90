"""Run benchmarks, keep their raw figures in `results/*.json`, and draw the tables of two pages from them.

    python benchmarks/report.py    draws the tables of RESULTS.md and LOST.md again, from the files alone

The pages are written by hand around their tables. A table begins with a mark and ends with `<!-- end -->`.
The mark `<!-- table: NAME -->` stands for the figures with goals in `results/NAME.json`, and
`<!-- table: NAME: MEASURE -->` for all figures of a row. `<!-- table: glance -->` stands for the figures that
`glance.tsv` names: on each line a label, the peer, the file, the beginning of the row's name, the figure's
name, and the goal if the file has another. A new row replaces only the row of its name.

A figure with `of` comes from an earlier page: its values are the smallest, the median and the largest of that
number of values. Names of hosts and paths are never written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measure import Figure, Goal, NotMeasured, Row

PACKAGES = (
    *("redraft", "xllamacpp", "torch", "transformers", "peft", "gguf", "trl", "rapidfuzz", "selectolax"),
    *("tokenizers", "rouge_score", "markdownify", "beautifulsoup4", "datasketch", "scipy"),
)
FILES = Path(__file__).with_name("results")
GLANCE = Path(__file__).with_name("glance.tsv")
PAGES = tuple(Path(__file__).with_name(name) for name in ("RESULTS.md", "LOST.md"))
FEW = 4  # if more figures share a goal, a table shows only the worst

_TABLE = re.compile(r"<!-- table: (?P<name>\w+)(?:: (?P<measure>.+?))? -->\n.*?<!-- end -->", re.DOTALL)
_SHORT = re.compile(r"\[\n[^\[\]{}]*\]")  # an array without nested ones, written on one line
Record = dict[str, Any]


def main(
    script: str,
    doc: str | None,
    rows: Mapping[str, Callable[..., Row]],
    *,
    room: str | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Measure the rows that the command line names, and write them, except with `--quick`.

    Args:
        script: The path of the benchmark, such as `benchmarks/generate.py`.
        doc: The docstring of the benchmark.
        rows: The functions that measure the rows, by name. They are called with `quick=`.
        room: The disk space that the rows need. If it is given, they are also called with a folder, `work=`.
        arguments: By default, those of the command line.

    Returns:
        The exit status: 1 if a goal was not reached or a row not measured, otherwise 0.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--only", choices=rows, action="append", help="measure only this row")
    parser.add_argument("--quick", action="store_true", help="measure little, and write no results")
    if room is not None:
        parser.add_argument("--work", type=Path, help=f"a folder on a disk with {room} free")
    asked, good = parser.parse_args(arguments), True
    for name in asked.only or rows:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(
            prefix="redraft-bench-", dir=asked.work if room is not None else None
        ) as work:
            try:
                row = rows[name](quick=asked.quick, **({"work": Path(work)} if room is not None else {}))
            except NotMeasured as error:
                print(f"{name} was not measured: {error}\n", flush=True)
                good = False
                continue
        print(f"{told(row)}\n\n({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)
        good = good and all(figure.reached is not False for figure in row.figures)
        if not asked.quick:
            write(script, row)
    return int(not good)


def sized(measure: Callable[..., Row], full: Sequence[Any], little: Sequence[Any]) -> Callable[..., Row]:
    def row(*, quick: bool) -> Row:
        return measure(*(little if quick else full))

    return row


def scaled(measure: Callable[[Any], Row], full: Callable[..., Any], little: Callable[..., Any]) -> Any:
    def row(*, quick: bool, work: Path) -> Row:
        return measure((little if quick else full)(work=work))

    return row


def write(script: str, *rows: Row) -> None:
    path = FILES / f"{Path(script).stem}.json"
    found = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=8"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cpu = model[1].strip() if model else platform.processor() or "unknown processor"
    made = {
        "command": f"python {script}",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GB, load {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, {', '.join(_versions())}",
        "commit": commit or "not a checkout",
    }
    for row in rows:
        record = _record(row) | {"made": made}
        old = [n for n, each in enumerate(found) if each["measure"] == row.measure]
        found[slice(old[0], old[0] + 1) if old else slice(len(found), None)] = [record]
    text = json.dumps({"script": script, "rows": found}, ensure_ascii=False, indent=1) + "\n"
    path.write_text(_SHORT.sub(lambda array: re.sub(r"\s*\n\s*", " ", array[0]), text), "utf-8")
    draw()


def _record(row: Row) -> Record:
    figures = [
        {
            "what": each.what,
            "values": list(each.values),
            "unit": each.unit,
            **({"goal": [each.goal.op, each.goal.value]} if each.goal else {}),
            **({"sides": each.sides} if each.sides else {}),
        }
        for each in row.figures
    ]
    table = {"table": [list(line) for line in row.table]} if row.table else {}
    return {"measure": row.measure, "how": row.how, "notes": list(row.notes), "figures": figures, **table}


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


# The pages.


def draw() -> None:
    for page in PAGES:
        page.write_text(refreshed(page.read_text("utf-8")), "utf-8")


def refreshed(page: str) -> str:
    """Return the page with its tables drawn from the files.

    Raises:
        KeyError: A table names a file or a measure that does not exist.
    """

    def made(place: re.Match[str]) -> str:
        name, measure, start = place["name"], place["measure"], place[0].partition("\n")[0]
        if name == "glance":
            return "\n\n".join((start, drawn([*_glanced()]), "<!-- end -->"))
        chosen = [row for row in _rows(name) if measure == row["measure"] or (not measure and row["figures"])]
        if not chosen:
            raise KeyError(start)
        lines = (
            start,
            table(chosen, whole=measure is not None),
            origin(chosen, f"{name}.json"),
            "<!-- end -->",
        )
        return "\n\n".join(lines)

    return _TABLE.sub(made, page)


def _rows(name: str) -> list[Record]:
    path = FILES / f"{name}.json"
    return json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []


def _glanced() -> Iterator[list[str]]:
    yield ["", "beside", "median (spread)", "goal", "measured"]
    for line in GLANCE.read_text("utf-8").splitlines():
        label, peer, name, measure, what, *goal = line.split("\t")
        row = next(each for each in _rows(name) if each["measure"].startswith(measure))
        [figure] = [each for each in row["figures"] if each["what"] == what]
        if goal:
            op, value = goal[0].split()
            figure = {**figure, "goal": [op, float(value)]}
        _, middle, aim, _ = _figure(figure)
        made = row["made"]
        cores = "AVX2" if "AVX2 alone" in row["measure"] + made["machine"] else "AVX-512"
        yield [
            label,
            peer,
            middle,
            aim,
            f"{made['date'][5:10]}, {'Xeon' if 'Xeon' in made['machine'] else 'EPYC'}, {cores}",
        ]


def table(rows: Sequence[Record], *, whole: bool) -> str:
    """Return figures as a table: those with a goal, or all of a row if `whole` is set or none has a goal."""
    if whole and "table" in rows[0]:
        return drawn(rows[0]["table"])
    lines = [["", "of", "median (spread)", "goal", "both sides"]]
    for row in rows:
        figures = row["figures"]
        if not whole and any("goal" in each for each in figures):
            figures = [each for each in figures if "goal" in each]
        for number, cells in enumerate(_folded(figures)):
            lines.append(["" if number else row["measure"], *cells])
    return drawn(lines)


def drawn(lines: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])


def _folded(figures: Sequence[Record]) -> Iterator[list[str]]:
    """Yield figures as cells. Zeros with the goal 0 share a line; of many with one goal, only the worst
    stays.
    """
    groups: dict[str, list[Record]] = {}
    for each in figures:
        nothing = each.get("goal") == ["≤", 0] and not any(each["values"])
        groups.setdefault("0" if nothing else json.dumps([each.get("goal"), each["unit"]]), []).append(each)
    for kind, same in groups.items():
        if kind == "0" and len(same) > 1:
            yield ["; ".join(each["what"] for each in same), "0", "≤ 0", _sides(same)]
        elif len(same) > FEW and "goal" in same[0]:
            worst = (min if same[0]["goal"][0] == "≥" else max)(same, key=_median)
            missed = sum(not Goal(*each["goal"]).reached(_median(each)) for each in same)
            count = f"worst of {len(same)}" + (f", {missed} missed" if missed else "")
            yield _figure({**worst, "what": f"{worst['what']} ({count})"})
        else:
            yield from map(_figure, same)


def _figure(figure: Record) -> list[str]:
    values, unit, goal = figure["values"], figure["unit"], figure.get("goal")
    middle = _median(figure)
    spread = f" ({number(min(values))} to {number(max(values))})" if len({*values}) > 1 else ""
    aim = f"{goal[0]} {shown(goal[1], unit)}" if goal else ""
    if goal and not Goal(*goal).reached(middle):
        aim += ", **missed**"
    return [figure["what"], shown(middle, unit) + spread, aim, _sides([figure])]


def _sides(figures: Sequence[Record]) -> str:
    return "; ".join(each["sides"] for each in figures if "sides" in each)


def _median(figure: Record) -> float:
    return statistics.median(figure["values"])


def origin(rows: Sequence[Record], name: str) -> str:
    made: dict[str, list[str]] = {}
    for row in rows:
        words = f"{row['made']['date'][:10]}, {row['made']['machine']}"
        made.setdefault(words, []).append(re.split(r"[:,](?!\d)", row["measure"])[0])
    first, *rest = made
    others = "".join(f" {'; '.join(made[each])}: {each}." for each in rest)
    return f"[`{rows[0]['made']['command']}`](results/{name}), {first}.{others}"


# Printed reports.


def told(row: Row) -> str:
    lines = [f"- {each.what}: {_told(each)}" for each in row.figures]
    table = drawn(row.table) if row.table else ""
    parts = (f"### {row.measure}", row.how, "\n".join(lines), table, *row.notes)
    return "\n\n".join(part for part in parts if part)


def _told(figure: Figure) -> str:
    spread = f"{number(min(figure.values))} to {number(max(figure.values))}, "
    reached = "" if figure.reached is not False else "; missed"
    sides = f"; {figure.sides}" if figure.sides else ""
    return f"{shown(figure.median, figure.unit)} ({spread}{len(figure.values)} measured){sides}{reached}"


def shown(value: float, unit: str) -> str:
    return f"{number(value)}{unit}" if unit == "×" else f"{number(value)} {unit}".rstrip()


def number(value: float) -> str:
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    draw()
