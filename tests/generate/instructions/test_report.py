"""The page of statistics: what it counts, and that texts of a teacher cannot become part of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from redraft.chain import write_jsonl
from redraft.errors import OutputError
from redraft.generate.instructions.report import stats_of, write_page
from redraft.generate.instructions.tasks import Origin, Task, to_chain


def written(out: Path, *tasks: Task) -> Path:
    write_jsonl(out, [to_chain(task, Origin("alpaca", 0, n), {}, {}) for n, task in enumerate(tasks, 1)])
    return out


def test_figures_of_what_was_kept(tmp_path: Path) -> None:
    one, two = Task("Write a story.", "", "Once."), Task("Is it wild?", "fox", "yes", is_classification=True)
    chains = [to_chain(one, Origin("w", 0, 1), {}, {}), to_chain(two, Origin("w", 3, 1), {}, {})]
    chains += [
        to_chain(Task("Is it wild?", "old cow", "no", is_classification=True), Origin("w", 3, 1, 2), {}, {})
    ]
    write_jsonl(tmp_path / "out.jsonl", chains)
    stats = stats_of(tmp_path / "out.jsonl")
    assert (stats.instructions, stats.tasks, stats.classifications, stats.without_input) == (2, 3, 1, 1)
    assert stats.lengths == {"instruction": {3: 2}, "input": {1: 1, 2: 1}, "output": {1: 3}}
    assert stats.verbs == {("write", "story"): 1}
    assert stats.without_verb == 1


@pytest.mark.slow
def test_verbs_are_shown_with_their_nouns(tmp_path: Path) -> None:
    tasks = ("Write a story.", "Write a poem.", "Write a story.", "Sort the list.")
    out = written(tmp_path / "out.jsonl", *(Task(text, "", "x") for text in tasks))
    page = write_page(out, stats_of(out), Counter(), "").read_text()
    assert ">write: story, poem</text>" in page
    assert ">3 · 75.0%</text>" in page
    assert ">sort: list</text>" in page


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    out = written(tmp_path / "o<b>.jsonl", Task("Write <script>alert(1)</script> twice.", "", "<img>"))
    page = write_page(out, stats_of(out), Counter({"<i>": 1}), "<u>").read_text()
    for tag in ("<script", "<img", "<i>", "<u>", "o<b>"):
        assert tag not in page


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    out = written(tmp_path / "out.jsonl", Task("Write it down now.", "", "x"))
    (tmp_path / "out.jsonl.html").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*out\.jsonl\.html"):
        write_page(out, stats_of(out), Counter(), "")


def test_without_tasks_there_is_a_page_too(tmp_path: Path) -> None:
    out = written(tmp_path / "out.jsonl")
    assert "<svg" not in write_page(out, stats_of(out), Counter(), "").read_text()
