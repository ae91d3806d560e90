"""`redraft run`: stages are done once, resumed, and done again where what they read has changed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from redraft.chain.documents import shipped_recipes
from redraft.data.merge import part_files, read_recipe, recipe_path
from redraft.errors import OutputError, RedraftError, UsageError
from redraft.jobs.files import open_locked
from redraft.train.self.tasks import find_task
from redraft.train.systems.recipe import FOLDER, read_system
from redraft.train.systems.run import Run, StageError
from redraft.train.systems.verbs import filled

VERBS = """
values: {model: script:replies.jsonl}
files: {questions: questions.jsonl}
stages:
  shared:
    verb: data export
    out: alpaca.json
    options: {source: "{answers}", to: alpaca, quiet: true}
  answers:
    verb: answer
    out: answers.jsonl
    options: {source: "{questions}", model: "{model}", max_revisions: 0, parallel: 1, quiet: true}
"""
FIRST = 'command: "cp {given} {out}"'
COPIES = """
files: {given: given.txt}
stages:
  first: {command: "cp {given} {out}", out: first.txt}
  other: {command: "echo {{made}} > {out}", out: other.txt}
  last: {command: "cat {first} {other} > {out}", out: last.txt}
"""


@pytest.fixture(autouse=True)
def given(here: Path) -> None:
    Path("given.txt").write_text("given\n")
    Path("replies.jsonl").write_text('"It falls."\n"It blows."\n')
    Path("questions.jsonl").write_text('{"prompt": "Rain?"}\n{"prompt": "Wind?"}\n')


def run_of(recipe: str, *, values: dict[str, str] | None = None, small: bool = False, **how: Any) -> Run:
    Path("recipe.yaml").write_text(recipe)
    return Run(read_system("recipe.yaml", values=values, small=small), Path("made"), **how)


def done(recipe: str, **how: Any) -> list[str]:
    said: list[str] = []
    run_of(recipe, **how, tell=said.append).run()
    return [line.partition(":")[0] for line in said if " s, made" in line]


def test_verbs_are_done_in_order_with_a_page_and_a_card() -> None:
    assert done(VERBS) == ["answers", "shared"]
    answers = [each["output"] for each in json.loads(Path("made/alpaca.json").read_text())]
    assert answers == ["It falls.", "It blows."]
    page = Path("made/index.html").read_text()
    assert "2 of 2 stages done" in page
    assert 'href="alpaca.json"' in page
    assert "| answers | `redraft answer` | questions |" in Path("made/README.md").read_text()


@pytest.mark.parametrize("system", shipped_recipes(FOLDER))
def test_what_a_small_system_reads_is_there(system: str) -> None:
    run = Run(read_system(system, small=True), Path("made"))
    run.plan().check(run.system, run.folder)
    for stage in run.system.stages.values():
        if stage.verb == "data merge":
            options = filled(stage.options, {name: str(run._path(name)) for name in stage.reads})
            assert len(part_files(options["recipe"], options.get("folder"))) == sum(
                not part.identity for part in read_recipe(recipe_path(options["recipe"])[0]).parts
            )


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("system", shipped_recipes(FOLDER))
def test_a_system_learns_tasks_that_there_are(system: str, small: bool) -> None:
    for stage in read_system(system, small=small).stages.values():
        for name in stage.options.get("tasks", ()):
            assert find_task(name).name == name


def test_a_stage_is_skipped_until_its_options_or_what_it_reads_change() -> None:
    assert sorted(done(COPIES)) == ["first", "last", "other"]
    assert (Path("made/last.txt").read_text(), done(COPIES)) == ("given\n{made}\n", [])
    assert done(COPIES.replace("{{made}}", "by hand")) == ["other", "last"]
    assert Path("made/before/other-1/other.txt").read_text() == "{made}\n"
    Path("given.txt").write_text("new\n")
    assert done(COPIES.replace("{{made}}", "by hand"), until="first") == ["first"]
    Path("made/last.txt").unlink()
    assert done(COPIES.replace("{{made}}", "by hand")) == ["last"]
    assert Path("made/last.txt").read_text() == "new\nby hand\n"


def test_files_and_folders_that_options_name_by_their_paths_count_by_content() -> None:
    assert len(done(VERBS)) == 2
    Path("replies.jsonl").write_text('"It pours."\n"It howls."\n')
    assert done(VERBS) == ["answers", "shared"]


def test_a_plan_says_what_tokens_cost() -> None:
    paid = "last.txt, options: {price: '1,2'}, needs: {hours: 2, new: 3, prompts: 1}}"
    plan = run_of(COPIES.replace("last.txt}", paid)).plan()
    assert list(plan.lines())[-1].split() == ["all", "3", "of", "3", "stages", "2.0", "h,", "7.00", "USD"]


def test_so_do_those_that_a_command_names() -> None:
    Path("more.txt").write_text("more\n")
    command = COPIES.replace("cp {given}", "cat {given} more.txt >")
    assert len(done(command)) == 3
    Path("more.txt").write_text("less\n")
    assert done(command) == ["first", "last"]


def test_the_parts_of_a_mix_count_by_content() -> None:
    mix = "stages: {mix: {verb: data merge, out: mix.jsonl, options: {recipe: mix.yaml, quiet: true}}}"
    Path("mix.yaml").write_text("parts: [{file: a.jsonl}]\n")
    Path("a.jsonl").write_text('{"instruction": "Rain?", "output": "It falls."}\n')
    assert (done(mix), done(mix)) == (["mix"], [])
    Path("a.jsonl").write_text('{"instruction": "Wind?", "output": "It blows."}\n')
    assert done(mix) == ["mix"]


def test_a_stage_whose_inputs_turn_out_as_before_is_skipped() -> None:
    assert len(done(COPIES)) == 3
    assert done(COPIES.replace("echo {{made}}", "echo '{{made}}'")) == ["other"]


def test_an_output_that_someone_edited_is_used_and_not_replaced() -> None:
    done(COPIES)
    Path("made/first.txt").write_text("edited\n")
    assert "first  done (edited): a command from given" in "\n".join(run_of(COPIES).plan().lines())
    assert (done(COPIES), Path("made/last.txt").read_text()) == (["last"], "edited\n{made}\n")
    card = Path("made/README.md").read_text()
    assert "| first | a command, then edited | given |" in card
    assert "data given.txt: unknown" in card
    assert done(COPIES) == []


def test_a_stage_that_fails_ends_the_run_and_is_resumed() -> None:
    failing = COPIES.replace('"echo', '"test -e ready && echo')
    with pytest.raises(StageError, match="stage other failed, with exit status 1"):
        done(failing)
    assert Path("made/first.txt").exists()
    assert not Path("made/last.txt").exists()
    Path("ready").touch()
    assert done(failing) == ["other", "last"]


def test_two_runs_in_a_folder_and_another_system_there_are_refused() -> None:
    Path("made/.run").mkdir(parents=True)
    lock = open_locked(Path("made/.run/lock"))
    assert lock is not None
    with pytest.raises(OutputError, match="another run is using made"):
        done(COPIES, patience=0.1)
    os.close(lock)
    done(COPIES, until="first")
    with pytest.raises(OutputError, match="small was off and is on"):
        done(COPIES, small=True)


def test_small_changes_options_and_set_changes_values() -> None:
    recipe = """
values: {word: large}
small: {word: little}
stages:
  only: {command: "echo {word} > {out}", small: {out: small.txt}}
"""
    done(recipe, small=True)
    assert Path("made/small.txt").read_text() == "little\n"
    assert run_of(recipe, values={"word": "given"}).system.stages["only"].command == "echo given > {out}"


@pytest.mark.parametrize(
    ("part", "other", "error", "message"),
    [
        ("cp {given}", "cat {last}", UsageError, "in a circle: (first → last → first|last → first → last)"),
        ("cp {given}", "cp {gone}", UsageError, "stage first reads {gone}, which is not a stage or file"),
        ("given.txt}", "gone.txt}", UsageError, "there is no gone.txt \\(the recipe's file given\\)"),
        ("first.txt}", "../first.txt}", UsageError, "must be a relative path inside the run's folder"),
        ("first.txt}", "last.txt}", UsageError, "stages first and last both write last.txt"),
        (FIRST, "verb: anser", UsageError, "there is no verb 'anser'"),
        (FIRST, "verb: answer", UsageError, "the option 'source' is missing"),
        (FIRST, "verb: answer, options: {source: a, modle: b}", UsageError, "there is no option 'modle'"),
        (FIRST, "verb: answer, options: {source: a, max_revisions: -1}", UsageError, "max_revisions is -1"),
        (
            FIRST,
            "verb: data export, options: {source: a, to: alpacca}",
            UsageError,
            "to is 'alpacca', which.*\n.*'alpaca'",
        ),
        ("last.txt}", "last.txt, needs: {gb: 900000000}}", OutputError, "the stages need 900,000,000.0 GB"),
    ],
)
def test_what_cannot_end_well_is_refused_before_the_first_stage(
    part: str, other: str, error: type[RedraftError], message: str
) -> None:
    assert part in COPIES
    with pytest.raises(error, match=message):
        done(COPIES.replace(part, other))
    assert not list(Path().glob("made/*.txt"))


# Kills, and the small systems.


KILLS = 10


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "redraft", "run", *words])


@pytest.mark.slow
def test_ten_kills_change_nothing() -> None:
    Path("replies.jsonl").write_text('"It is as it is."\n')
    Path("questions.jsonl").write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in range(400)))
    copy = '  again: {command: "sleep 0.3; cp {shared} {out}", out: again.json}\n'
    Path("plain.yaml").write_text(VERBS.replace("  shared:", f"{copy}  shared:"))
    assert start("plain.yaml", "-o", "whole").wait() == 0
    chance, kills = random.Random(1), 0
    while kills < KILLS:
        run = start("plain.yaml", "-o", "killed")
        time.sleep(chance.uniform(0.3, 2.5))
        kills += run.poll() is None
        run.kill()
        run.wait()
        if run.returncode == 0:  # it was done before it could be killed
            Path("killed/alpaca.json").unlink()
    assert start("plain.yaml", "-o", "killed").wait() == 0
    for name in ("alpaca.json", "again.json"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("system", shipped_recipes(FOLDER))
def test_a_small_system_is_made_by_one_command(system: str) -> None:
    assert start(system, "--small").wait() == 0
    made = Path(f"{system}-small")
    assert "stages done" in (made / "index.html").read_text()
    card = (made / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    assert "## report" in card
    before = (made / "index.html").stat().st_mtime_ns
    assert start(system, "--small").wait() == 0
    assert (made / "index.html").stat().st_mtime_ns == before  # nothing was made again
