"""What was found, as Markdown, with the machine and the versions that it was found on. No names of hosts
or paths.

Each script has a part of the page: writing one leaves the others as they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from measure import Figure, Row
from redraft.jobs.provenance import commit

PACKAGES = (
    *("redraft", "xllamacpp", "torch", "transformers", "peft", "gguf", "trl"),
    *(
        "rapidfuzz",
        "selectolax",
        "tokenizers",
        "rouge_score",
        "markdownify",
        "beautifulsoup4",
        "datasketch",
        "scipy",
    ),
)
TITLE = "# Results\n\n<!-- Made by the scripts in benchmarks/. Do not edit: run `make bench`. -->\n\n"
HEADER = "| measure | of | median | spread | must reach | reached |\n|---|---|---|---|---|---|"


RESULTS = Path(__file__).with_name("RESULTS.md")


def main(script: str, doc: str | None, rows: Mapping[str, Callable[..., Row]]) -> int:
    """Measures the rows that the command line names, and writes the script's part of the page if all are.

    Args:
        script: Its path, such as `benchmarks/generate.py`.
        doc: Its docstring.
        rows: Name -> what measures a row. It is called with `quick=`: whether little is to be measured.

    Returns:
        1 if a goal was not reached.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--only", choices=rows, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, and no results written")
    asked, start, found = parser.parse_args(), time.perf_counter(), []
    for name in asked.only or rows:
        found.append(rows[name](quick=asked.quick))
        print(section(found[-1]), flush=True)
    if not asked.only and not asked.quick:
        put(RESULTS, script, page(found, script, (time.perf_counter() - start) / 60))
    return int(any(figure.reached is False for row in found for figure in row.figures))


def put(results: Path, script: str, part: str) -> None:
    """Writes a script's part of the page, in the place of its last one."""
    parts = dict(_parts(_read(str(results)))) | {script: part}
    results.write_text(TITLE + "\n".join(parts.values()), "utf-8")


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Heading and part, of every part of a page. Those of no script are written by hand."""
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        heading, _, _ = part.partition("\n")
        yield heading.removeprefix("## "), part.rstrip("\n") + "\n"


def page(rows: Sequence[Row], script: str, minutes: float) -> str:
    """The whole part of one script, such as `benchmarks/revise.py`."""
    parts = [
        f"## {script}",
        "\n".join(f"- {line}" for line in circumstances(f"python {script}", minutes)),
        "Spread is the smallest and the largest of all pairs or repetitions.",
        table(rows),
        *(section(row) for row in rows),
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Every figure that has a goal, in one table."""
    return "\n".join([HEADER, *(line for row in rows for line in _lines(row))])


def _lines(row: Row) -> Iterator[str]:
    if not row.figures:
        yield f"| {row.measure} | | not measured | | | no |"
    for figure in row.figures:
        if figure.goal is not None:
            goal = f"{figure.goal.op} {shown(figure.goal.value, figure.unit)}"
            cells = (row.measure, figure.what, middle(figure), spread(figure), goal)
            yield f"| {' | '.join(cells)} | {'yes' if figure.reached else '**no**'} |"


def section(row: Row) -> str:
    """How a row was measured, and all of its figures."""
    figures = "\n".join(
        f"- {figure.what}: {middle(figure)} ({spread(figure)}, {len(figure.values)} measured)"
        + (f"; {figure.sides}" if figure.sides else "")
        + ("" if figure.goal else "; for information")
        for figure in row.figures
    )
    parts = (f"### {row.measure[0].upper()}{row.measure[1:]}", row.how, figures, *row.notes)
    return "\n\n".join(part for part in parts if part)


def middle(figure: Figure) -> str:
    """The median, with its unit."""
    return shown(figure.median, figure.unit)


def spread(figure: Figure) -> str:
    """Smallest and largest value; nothing for a single one."""
    if len(figure.values) == 1:
        return "one run"
    return f"{number(min(figure.values))} to {number(max(figure.values))}"


def shown(value: float, unit: str) -> str:
    """A value with its unit."""
    return f"{number(value)}{unit}" if unit == "×" else f"{number(value)} {unit}".rstrip()


def number(value: float) -> str:
    """A value with three digits that count, or two where it is small."""
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def circumstances(command: str, minutes: float) -> list[str]:
    """When, where and with what it was measured."""
    return [
        f"command: `{command}`",
        f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes, load {_load()} at the end",
        f"machine: {_cpu()}, {os.cpu_count()} cores, {_memory():.0f} GB memory, {platform.system()}",
        f"versions: Python {platform.python_version()}, {', '.join(_versions())}",
        f"commit: {commit() or 'not a checkout'}",
        "model: the default model, SmolLM2-135M-Instruct.Q4_1.gguf",
    ]


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown processor"


def _memory() -> float:
    """Memory in GB (10⁹ bytes)."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _load() -> str:
    """How many processes wanted to run in the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


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
            yield f"{package} not installed"
