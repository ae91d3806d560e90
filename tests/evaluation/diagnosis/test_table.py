"""The table of a folder of runs whose outcome is known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from redraft.chain import write_jsonl
from redraft.errors import OutputError, UsageError
from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.equal_tokens import series
from redraft.evaluation.diagnosis.table import ALL, Table, parts_of, sentences, table_of
from redraft.evaluation.stats import holm, without_nan
from tests.evaluation.diagnosis.made_chains import shares, told, write_run

Way = tuple[str, int, list[bool]]  # the name of its files, tokens a prompt, and which answers are right


def folder_of(folder: Path, cells: dict[tuple[str, str], list[Way]]) -> Path:
    models, tasks = ({key[place]: key[place] for key in cells} for place in (0, 1))
    plan = {"models": models, "tasks": {name: {"task": "checks", "file": name} for name in tasks}}
    folder.mkdir(exist_ok=True)
    (folder / "runs.json").write_text(json.dumps(plan))
    for (model, task), ways in cells.items():
        for way, tokens, rights in ways:
            write_run(folder / "runs" / model / task, way, tokens, rights, 0)
    return folder


def ways(revise: int, best: int, plain: int = 8) -> list[Way]:
    return [
        ("plain", 100, shares(plain)),
        ("revise-2", 200, shares(revise)),
        ("best-of-2", 150, shares(plain)),
        ("best-of-3", 250, shares(best)),
    ]


def found(table: Table, model: str, task: str, other: str) -> tuple[float, str]:
    [row] = [e for e in table.comparisons if (e.model, e.task, e.kind) == (model, task, other)]
    return round(row.decision.gain.value * 100, 6), row.finding


def test_ways_are_compared_at_equal_tokens_within_tasks_and_over_all(tmp_path: Path) -> None:
    table = table_of(folder_of(tmp_path / "d", {("m", "easy"): ways(30, 12), ("m", "hard"): ways(2, 28)}))
    # Half-way between the runs of 150 and 250 tokens: 10 right and 18.
    assert found(table, "m", "easy", "best-of") == (50.0, "better")
    assert found(table, "m", "hard", "best-of") == (-40.0, "worse")
    assert found(table, "m", ALL, "best-of") == (5.0, "open")
    [easy] = [cell for cell in table.cells if cell.task == "easy"]
    assert "m, all tasks: 80 prompts, 1 seed; 95 % intervals\none answer " in str(table)
    said = " ".join(sentences(table))
    assert "m, revise: Undecided: revising is not shown to do better than best of N." in said
    [run] = [e for e in easy.points if e.way.name == "best-of-3"]
    assert (run.mean.tokens, run.mean.prompts) == (250, 10)


def test_p_is_corrected_among_the_comparisons_of_a_family(tmp_path: Path) -> None:
    table = table_of(folder_of(tmp_path / "d", {("m", str(n)): ways(13 + n, 8) for n in range(4)}))
    within = [each for each in table.comparisons if each.task != ALL]
    assert len(within) == 8
    assert [each.p for each in within] == pytest.approx(holm([each.decision.p for each in within]))
    least = min(within, key=lambda each: each.decision.p)
    assert least.p == pytest.approx(least.decision.p * 8)


def test_a_task_that_a_model_has_not_answered_is_named(tmp_path: Path) -> None:
    table = table_of(folder_of(tmp_path / "d", {("a", "t"): ways(10, 10), ("b", "u"): ways(10, 10)}))
    assert list(table.remarks) == [f"{name}: there are no finished runs." for name in ("a, u", "b, t")]


def test_prompts_and_seeds_that_lack_a_run_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", {("m", "t"): [*ways(20, 20), ("blind-2", 200, shares(10, of=38))]})
    write_run(folder / "runs" / "m" / "t", "plain", 100, shares(8), 2)
    # The prompts that a stopped run answered may be the easy ones. Prompts that failed are no such choice.
    lacking = "seed-0 (blind-2), seed-2 (revise-2, best-of-2, best-of-3, blind-2)"
    said = f"m, t: UNFINISHED, so these seeds or ways are not counted: {lacking}."
    assert list((table := table_of(folder)).remarks) == [said]
    assert "m, t: 40 prompts, 1 seed; " in str(table)
    assert "blind retry" not in str(table)
    errors = folder / "runs" / "m" / "t" / "seed-0" / "blind-2.jsonl.errors.jsonl"
    errors.write_text("".join(f'{{"id": "i{n:03}", "cause": "c", "error": "e"}}\n' for n in (38, 39)))
    assert "m, t: 38 prompts, 1 seed; 95 % intervals\n" in str(now := table_of(folder))
    assert now.remarks[0] == "m, t: 2 prompts not counted, because some run gave no answer."
    for way, tokens, rights in ways(20, 20):
        write_run(folder / "runs" / "m" / "u", way, tokens, rights[: 40 if way == "plain" else 9], 0)
        write_run(folder / "runs" / "m" / "u", way, tokens, rights, 1)
    assert (cell := equal_tokens.curves_in(folder / "runs" / "m" / "u", "m", "u")) is not None
    assert (cell.seeds, len(cell.points)) == (1, 4)


def test_revising_alone_is_held_against_ways_that_see_no_check(tmp_path: Path) -> None:
    own = [*ways(20, 20), ("alone-2", 180, shares(9)), ("vote-3", 200, shares(15))]
    table = table_of(folder_of(tmp_path / "d", {("m", "t"): own}))
    assert {each.kind for each in table.comparisons if each.ours == "alone"} == {"plain", "vote"}
    assert {each.kind for each in table.comparisons if each.ours == "revise"} == {"plain", "best-of", "vote"}
    assert "Not tested" not in str(table)
    assert len(series(table.cells[0])["revise alone"]) == 1, "its first answers are not those of `one`"
    file = tmp_path / "d" / "runs" / "m" / "t" / "seed-0" / "alone-2.jsonl"
    for way, tokens, rights in own[1], own[4]:
        write_run(tmp_path / "d" / "runs" / "m" / "t", way, tokens, rights, 0, first="")
    file.write_text(file.read_text().replace('"stop"', '"max_tokens"').replace("answer 0", "other"))
    table = table_of(tmp_path / "d")
    assert "in 40 of 40 chains, drafts of `alone` and `one` differ" in str(table)
    assert "m, t: --max-tokens is too small: it cut off up to 100.0 % of the answers" in str(table)
    assert re.search(r"alone, 1 revision +22.5 .* prompt tokens, 100.0 % cut off, none revised\n", str(table))
    untested = "Not tested: no answer was revised."
    *said, best = sentences(table, best=True)
    assert said == [f"m, {way}: {untested}" for way in ("revise", "revise alone")]
    assert best.startswith("m: No tested way has more right answers than best of 3, 50.0 % (")
    two = folder_of(tmp_path / "two", {("m", "t"): own[:2]})
    write_run(two / "runs" / "m" / "t", *own[1], 0, first="")
    assert "m: No other way than one answer was tested, 20.0" in [*sentences(table_of(two), best=True)][-1]
    own[4] = ("alone-2", 200, shares(20))  # as of a model that was trained to revise
    table = table_of(folder_of(tmp_path / "same", {("m", "t"): own}))
    pairs = [(each.ours, each.kind) for each in table.comparisons]
    assert pairs == [("revise", "best-of"), ("alone", "plain"), ("alone", "vote")]
    [part, *_] = parts_of(table)
    assert part.claim.startswith("No way has more right answers than revise with 1 revision or revise alone ")
    assert "m, t: in 40 of 40 prompts, the model saw no check's feedback, so" in str(table)


def test_one_answer_of_the_base_model_is_called_that_and_no_line_leads_from_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", {("m", "t"): [*ways(30, 12), ("blind-2", 200, shares(30))]})
    for way in ("plain", "blind-2", "revise-2"):
        by = "its own revision" if way == "revise-2" else "the base model"
        file = folder / "runs" / "m" / "t" / "seed-0" / f"{way}.jsonl"
        file.write_text(file.read_text().replace('"meta":{', f'"meta":{{"answered_by":"{by}",'))
    table = table_of(folder)
    assert "revise minus one answer of the base model " in str(table)
    assert " over one answer of the base model, for 100 tokens more" in "".join(sentences(table))
    assert "m, t: in 40 of 40 prompts, an adapter answered for other ways, but not for `one`" in str(table)
    assert "revise minus blind retry" not in str(table)
    drawn = {name: len(points) for name, points in series(table.cells[0]).items()}
    assert drawn == {"one answer of the base model": 1, "best of N": 2, "blind retry": 1, "revise": 1}
    file = folder / "runs" / "m" / "t" / "seed-0" / "blind-2.jsonl"
    file.write_text(file.read_text().replace("the base model", "its own draft", 10))
    [said] = sentences(table_of(folder))
    assert said.endswith(" leave out 30 prompts where only one of the two ways used an adapter.")
    (folder / "runs" / "m" / "t" / "seed-0" / "best-of-3.jsonl").unlink()
    assert " 200 tokens against 150 tokens; " in str(table_of(folder)), "as in the chart"
    for way in ("revise-2", "shuffled-2"):
        write_jsonl(file.with_name(f"{way}.jsonl"), [told(f"i{n:03}", "01", "r") for n in range(40)])
    assert "m, t: shuffled feedback equalled real feedback in 40 of 40 chains." in table_of(folder).remarks


def test_a_way_that_a_task_lacks_is_no_way_over_all_tasks(tmp_path: Path) -> None:
    voting = [*ways(20, 20), ("vote-3", 200, shares(15))]
    table = table_of(folder_of(tmp_path / "d", {("m", "t"): voting, ("m", "u"): ways(20, 20)}))
    [over] = [cell for cell in table.cells if cell.task == ALL]
    assert {*over.kinds} == {"plain", "revise", "best-of"}
    json.dumps(without_nan(table), allow_nan=False)


def test_folders_without_runs_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished runs") as caught:
        table_of(tmp_path)
    assert f"redraft diagnose {tmp_path} --tasks add --models default" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no finished runs") as caught:
        table_of(folder_of(tmp_path / "begun", {("m", "t"): []}))
    assert caught.value.hint == "Repeat the command that began the runs, with the same options."
    with pytest.raises(UsageError) as caught:
        table_of(folder_of(tmp_path, {("m", "t"): ways(1, 1)}) / "runs" / "m" / "t")
    assert str(caught.value.hint).endswith("runs/m/t/seed-*/revise-2.jsonl")
    (tmp_path / "runs.json").write_text("{")
    with pytest.raises(OutputError, match=r"runs\.json cannot be read"):
        table_of(tmp_path)
