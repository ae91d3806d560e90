"""The pages of results are made from the raw figures, and a benchmark replaces its own rows alone."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"
WORDS = {"RESULTS.md": 7_000, "LOST.md": 1_500}


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("report")
    sys.path.remove(str(FOLDER))
    for name in ("report", "measure"):
        del sys.modules[name]


@pytest.mark.parametrize("name", WORDS)
def test_a_page_has_what_the_raw_figures_say_and_stays_short(bench: Any, name: str) -> None:
    page = (FOLDER / name).read_text("utf-8")
    assert bench.refreshed(page) == page, "run: python benchmarks/report.py"
    assert len(page.split()) <= WORDS[name]
    for link in re.findall(r"\]\((results/\w+\.json|\w+\.md)", page):
        assert (FOLDER / link).exists()


def test_every_raw_figure_says_when_and_where_it_was_measured() -> None:
    for path in (FOLDER / "results").glob("*.json"):
        for row in json.loads(path.read_text("utf-8"))["rows"]:
            assert re.match(r"2\d{3}-\d\d-\d\d", row["made"]["date"]), (path.name, row["measure"])
            assert row["made"]["machine"]
            assert row["figures"] or row.get("table") or row["notes"]


def test_a_row_is_measured_again_beside_the_others(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("By hand.\n\n<!-- table: speed -->\n<!-- end -->\n\nToo.\n", "utf-8")
    monkeypatch.setattr(bench, "FILES", tmp_path)
    monkeypatch.setattr(bench, "PAGES", (page,))
    goal = bench.Goal("≤", 100.0)

    def row(name: str, *values: float) -> Any:
        return bench.Row(name, "How.", (bench.Figure("a step", values, "ms", goal, "context 1,700"),))

    script = "benchmarks/speed.py"
    bench.write(script, row("one", 3.0), row("two", 4.0))
    bench.write(script, row("one", 80.0, 90.25, 123.4))
    text = page.read_text("utf-8")
    assert text.startswith("By hand.\n")
    assert text.endswith("\n\nToo.\n")
    assert "| one | a step | 90.2 ms (80.0 to 123) | ≤ 100 ms | context 1,700 |" in text
    assert "| two | a step | 4.00 ms | ≤ 100 ms | context 1,700 |" in text
    assert "(results/speed.json), 2" in text
    made = json.loads((tmp_path / "speed.json").read_text("utf-8"))["rows"][0]["made"]
    assert {"command", "date", "machine", "versions", "commit"} == {*made}
    assert made["versions"].startswith("Python 3")


def test_a_table_shows_what_was_missed_and_of_many_figures_the_worst(bench: Any) -> None:
    def figures(goal: Any, *values: float) -> list[Any]:
        return [bench.Figure(f"n{n}", (value,), "%", goal) for n, value in enumerate(values)]

    low, nothing = bench.Goal("≥", 2.0), bench.Goal("≤", 0.0)
    found = (*figures(low, 3, 1, 5, 6, 1.5), *figures(nothing, 0, 0), bench.Figure("beside", (7.0,), "s"))
    assert bench.table([bench._record(bench.Row("it", "", found))], whole=False).splitlines()[2:] == [
        "| it | n1 (worst of 5, 2 missed) | 1.00 % | ≥ 2.00 %, **missed** |  |",
        "|  | n0; n1 | 0 | ≤ 0 |  |",
    ]


def test_a_table_of_what_is_not_there_is_an_error(bench: Any) -> None:
    with pytest.raises(KeyError, match="nothing"):
        bench.refreshed("<!-- table: nothing -->\n<!-- end -->\n")


@pytest.mark.parametrize(("quick", "written"), [(["--quick"], 0), (["--only", "one"], 1), ([], 2)])
def test_rows_are_measured_as_asked_and_written_unless_little(
    bench: Any, quick: list[str], written: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows: list[str] = []
    monkeypatch.setattr(bench, "write", lambda script, row: rows.append(row.measure))

    def measure(name: str, size: int) -> Any:
        (tmp_path / f"{name}-{size}").touch()
        return bench.Row(name, "How.", (bench.Figure("it", (1.0,), "s", bench.Goal("≥", 2.0)),))

    both = {name: bench.sized(measure, (name, 9), (name, 1)) for name in ("one", "two")}
    assert bench.main("benchmarks/x.py", "Measures.", both, arguments=quick) == 1
    assert len(rows) == written
    assert {path.name[-1] for path in tmp_path.iterdir()} == ({"1"} if "--quick" in quick else {"9"})


@pytest.mark.slow  # 200 draws of each of six tasks, as they are and with no way that steers
def test_choices_from_archived_answers_reach_their_goals(bench: Any) -> None:
    choose = importlib.import_module("choose")
    row = choose.measure(json.loads(choose.KEPT.read_text("utf-8")))
    del sys.modules["choose"]
    assert {figure.what: figure.reached for figure in row.figures} == {
        "right answers less than with the best fixed way": True,
        "false": True,
        "broken": True,
        "answers": True,
    }
