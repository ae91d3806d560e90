from __future__ import annotations

import json
import re
from itertools import cycle
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
from typer.testing import Result

pytest.importorskip("scipy")

from redraft import recipe, revise
from redraft.chain import Chain
from tests.cli.verbs import chains as chains_of
from tests.cli.verbs import redraft, refused, script, write
from tests.engines.paid_server import PaidServer

FEW = ("--seeds", "1", "--limit", "3", "--samples", "3", "-j", "1", "--models", "script:script.jsonl")
BOTH, GSM8K = "add,gsm8k:test.jsonl", "gsm8k:test.jsonl"


@pytest.fixture(autouse=True)
def _four(_folder: None) -> None:
    four()


def four() -> None:
    write("test.jsonl", [{"question": f"How many? ({n})", "answer": f"So.\n#### {n}"} for n in range(4)])
    script(*["Answer: 0", "Answer: 1", "9", "11", "12"] * 60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        four()
        assert run(GSM8K, "--ways", "vote").exit_code == 0
    return home / "d"


def run(tasks: str = BOTH, *more: str) -> Result:
    return redraft("diagnose", "d", "--tasks", tasks, *FEW, *more)


def verify() -> Result:
    return redraft("diagnose", "d", "--verify")


def table() -> dict[str, Any]:
    return dict(json.loads(Path("d/table.json").read_text()))


def files() -> dict[str, str]:
    return {str(file): file.read_text() for file in sorted(Path("d").glob("runs/*/*/*/*.jsonl"))}


def run_of(way: str, seed: int = 0) -> dict[str, Chain]:
    [file] = Path("d/runs").glob(f"*/*/seed-{seed}/{way}.jsonl")
    return {chain.id: chain for chain in chains_of(file)}


def test_each_way_answers_each_task_and_the_page_says_what_came_out() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert {"plain", "revise-2", "alone-2", "best-of-2", "vote-3"} <= {Path(name).stem for name in files()}
    assert "script:script.jsonl, revise: " in result.stdout
    page = Path("d/index.html").read_text()
    titled = ("Who should revise, when, and how?", ", at equal tokens where possible</h2>")
    told = ("way has more right answers than ", "<p>Undecided: revising is not")
    for shown in ("revise alone", "majority vote", "all tasks", *titled, *told):
        assert shown in page
    assert "new tokens a prompt</text>" in page
    assert re.search(r"3 prompts, 1 seed; temperature 0.7, top_p 1.0, max_tokens \d+, seeds 0<", page), page
    before = files()
    assert run().stdout == result.stdout
    Path("script.jsonl").rename("gone.jsonl")
    again = redraft("diagnose", "d")
    assert (again.exit_code, again.stdout) == (0, result.stdout), "only the page is made again"
    assert json.loads(redraft("diagnose", "d", "--json").stdout) == table()
    assert files() == before
    done = verify()
    assert done.exit_code == 0, done.output
    assert re.search(r"Verified: \d+ figures follow from \d+ files, and so do .* \d+ answers", done.stdout)


def test_all_ways_begin_with_the_same_first_answers() -> None:
    assert run(GSM8K, "--ways", "best,vote,blind,shuffled", "--seeds", "2").exit_code == 0
    for seed in (0, 1):
        plain = {name: chain.answer for name, chain in run_of("plain", seed).items()}
        assert len(plain) == 3
        for way in ("revise-2", "blind-2", "shuffled-2"):
            assert {name: chain.steps[0].answer for name, chain in run_of(way, seed).items()} == plain
        for name, chain in run_of("best-of-2", seed).items():
            assert plain[name] in [step.answer for step in (*chain.steps, *chain.drafts)]
        votes = {(len(chain.drafts), chain.passed) for chain in run_of("vote-3", seed).values()}
        assert votes == {(2, None)}, "a vote draws all its samples, but no check failed"
    drawn = [chain.sampling["seed"] for seed in (0, 1) for chain in run_of("plain", seed).values()]
    assert len(set(drawn)) == 6


def test_drafts_are_drawn_until_they_take_what_revising_took() -> None:
    script(*["word " * 8] * 400)  # a revision is as long as an answer, and two of them take as much
    assert run("add", "--ways", "best").exit_code == 0
    assert {Path(name).stem for name in files()} == {"plain", "revise-2", "best-of-2"}


def test_long_answers_have_no_majority() -> None:
    write("own.jsonl", [{"prompt": f"Describe rain. ({n})", "checks": ["contains:rain"]} for n in range(2)])
    script(*["rain", "sun"] * 20)
    result = run("own.jsonl")
    assert result.exit_code == 0, result.output
    assert not list(Path("d").rglob("vote-*"))
    assert "contains:rain scores" not in result.stdout, "the prompt asks for it"
    refused(run("add", "--ways", "one,vote", "--samples", "2"), "no votes to count.", "Give --samples 3")
    write("test.jsonl", [{"prompt": "Describe rain.", "checks": ["contains:rain"]}])
    refused(run("test.jsonl", "--ways", "vote"), "no votes to count.", "have none: test/0 in test.")
    both = run("add,own.jsonl", "--ways", "one,vote")
    assert "short answers. These prompts have none: own/0, own/1 in own.\n" in both.stderr
    assert {file.parent.parent.name for file in Path("d").rglob("vote-*.jsonl")} == {"add"}
    write("test.jsonl", [{"prompt": "Describe fog.", "checks": ["contains:rain"]}])
    redone = redraft("diagnose", "new", "--tasks", "test.jsonl", *FEW, "--ways", "one,revise", "--quiet")
    assert redone.exit_code == 0, "a refused command has answered nothing, so the file may change"
    assert "test: contains:rain scores, but also told the model the wanted text." in redone.stdout


def test_more_ways_seeds_and_models_are_added_to_the_folder() -> None:
    assert run("add", "--ways", "one,revise").exit_code == 0
    before = files()
    script("Answer: 2", *["9"] * 200, name="other")
    more = ("--models", "script:other.jsonl", "--ways", "one,revise,best", "--seeds", "2")
    assert run("add", *more).stderr.count("redraft: one, seed 0: run 1 of at most 8\n") == 2, "of each model"
    now = files()
    assert now.items() >= before.items()
    assert {Path(name).parts[2] for name in now} == {"script-script.jsonl", "script-other.jsonl"}
    assert [each["model"] for each in table()["cells"]] == ["script:script.jsonl", "script:other.jsonl"]
    fewer = run(BOTH, "--models", "script:other.jsonl", "--ways", "vote", "--limit", "2")
    refused(fewer, "script.jsonl/add has an answer to prompt 3, but --limit is 2.", "Set --limit 3 or more")
    assert verify().exit_code == 0, "a refused command changes nothing"
    write("own.jsonl", [{"prompt": prompt, "checks": ["words<=9"]} for prompt in ("Hi", "Hi", "Go")])
    assert run("own.jsonl", "--ways", "one,revise").exit_code == 0
    [answers] = Path("d/runs").glob("*/own/seed-0/plain.jsonl")
    answers.write_text(answers.read_text() + '{"id": ["damaged"]}\n')
    refused(run("own.jsonl", "--limit", "2"), "own has an answer to prompt 3, but --limit is 2.", "--limit 3")


def test_a_stopped_run_goes_on_and_no_answer_is_made_twice() -> None:
    assert run(GSM8K, "--ways", "vote").exit_code == 0
    before = {name: texts(name) for name in files()}
    folder = next(Path("d").rglob("seed-0"))
    (folder / "vote-3.jsonl").unlink()  # as if it had been stopped there
    cut = folder / "revise-2.jsonl"
    cut.write_bytes(cut.read_bytes().splitlines(keepends=True)[0])
    assert run(GSM8K, "--ways", "vote").exit_code == 0
    assert {name: texts(name) for name in files()} == before


def test_an_unfinished_task_leaves_the_verdict_to_the_others_and_can_be_dropped() -> None:
    assert run(BOTH, "--ways", "one,revise").exit_code == 0
    [cut] = Path("d/runs").glob("*/test/seed-0/revise-2.jsonl")
    cut.write_bytes(cut.read_bytes().splitlines(keepends=True)[0])
    said = r"(?s)(?!.*all tasks).*test: there are no finished runs.*, revise: "
    assert re.match(said, redraft("diagnose", "d").stdout)
    assert verify().stdout.endswith(" answers. UNFINISHED runs are not counted.\n")
    rmtree(cut.parent.parent)
    Path("d/tasks/test.jsonl").unlink()
    assert redraft("diagnose", "d").exit_code == 0
    assert verify().exit_code == 0, verify().output


def texts(file: str) -> list[tuple[str, list[str]]]:
    return [(chain.id, [step.answer for step in (*chain.steps, *chain.drafts)]) for chain in chains_of(file)]


def test_an_empty_answer_is_wrong_and_the_run_goes_on() -> None:
    script("Answer: 0", "", *["Answer: 2"] * 50)
    result = run(GSM8K, "--ways", "one,revise")
    assert "seed-0/plain.jsonl: 1 prompt failed: empty reply 1." in result.stderr
    assert result.exit_code == 3, result.output
    assert "script:script.jsonl, test: 3 prompts, 1 seed" in result.stdout
    assert re.search(r"one answer +66.7 %", result.stdout)


def test_a_limit_is_of_all_ways_together_and_the_next_command_goes_on() -> None:
    script(*["Answer: 9"] * 500)
    limited = ("--ways", "one,revise", "--price", "0,1000000", "--limit-usd", "40")
    one = run(GSM8K, *limited)
    assert (one.exit_code, one.stdout) == (4, ""), one.output
    assert "the limit of 40 USD is reached" in one.stderr
    assert run(GSM8K, *limited).exit_code == 0
    assert len(run_of("revise-2")) == 3


def test_quiet_says_nothing_but_the_result() -> None:
    assert run(GSM8K, "--ways", "blind", "--quiet").stderr == ""
    ways = enumerate(("one", "revise-2", "blind-2"), 1)
    said = ["redraft: script:script.jsonl, test: at most one run for each way, number of answers and seed"]
    said += [f"redraft: {way}, seed 0: run {number} of at most 3" for number, way in ways]
    assert run(GSM8K, "--ways", "blind").stderr.splitlines() == said
    *_, last = run(GSM8K, "--ways", "best", "--samples", "9").stderr.splitlines()
    assert re.match(r"redraft: \d of 10 runs are not needed: fewer drafts already", last)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (('"passed":false', '"passed":true'), "the stored results disagree with the task's checks"),
        (("(1)", "(7)"), "another prompt of the task has this id"),
    ],
)
def test_an_edited_record_is_found(whole: Path, edit: tuple[str, str], said: str) -> None:
    copytree(whole, "d")
    [file] = [file for file in map(Path, files()) if file.stem == "revise-2"]
    text = file.read_text()
    assert edit[0] in text
    file.write_text(text.replace(*edit))
    done = verify()
    assert done.exit_code == 1, done.output
    assert f"{file.relative_to('d')} was changed afterwards." in done.stdout
    assert said in done.stdout
    assert "Not verified." in done.stdout


def test_ways_are_compared_at_equal_money_if_it_is_known_and_that_can_be_verified(whole: Path) -> None:
    copytree(whole, "d")
    refused(redraft("diagnose", "d", "--equal", "money"), "compared at equal money.", "--price IN,OUT")
    assert verify().exit_code == 0, "the page is as before"
    refused(redraft("diagnose", "d", "--equal", "gold"), "--equal is 'gold'.", "tokens, seconds or money")
    [file] = Path("d").rglob("plain.jsonl")
    refused(redraft("diagnose", str(file), "--equal", "money"), "--equal needs a folder that --tasks wrote.")
    rmtree("d")
    priced = run("add", "--ways", "best", "--price", "0,1000000", "--equal", "money")
    told = r"add, at equal money where possible: .*\nrevise minus one .* \d+\.\d{6} USD against"
    assert re.search(told, priced.stdout), priced.stdout
    assert table()["by"] == "money"
    assert "money a prompt</text>" in Path("d/index.html").read_text()
    Path("d/index.html").unlink()
    Path("d/table.json").write_text(json.dumps({**table(), "redraft": "0"}))
    assert re.fullmatch(r"Verified: .* answers\.\n", verify().stdout)
    Path("d/table.json").write_text(json.dumps({**table(), "by": "gold"}))
    assert "table.json: by is 'gold', but the records give 'tokens'." in verify().stdout


def test_an_edited_figure_and_a_lost_file_are_found(whole: Path) -> None:
    copytree(whole, "d")
    text = Path("d/table.json").read_text()
    found = json.loads(text)
    found["cells"][0]["points"][0]["score"]["value"] = 0.9
    Path("d/table.json").write_text(json.dumps(found))
    done = verify()
    said = "table.json: cells[0].points[0].score.value is 0.9, but the"
    assert (done.exit_code, done.stdout[: len(said)]) == (1, said)
    Path("d/table.json").write_text(text)
    page = Path("d/index.html").read_text()
    for place in (r"<td>\d+\.\d(?= %)", r": \d+\.\d(?= %)"):  # in a row, and at a point of the chart
        Path("d/index.html").write_text(re.sub(place, lambda has: f"{has[0][0]}9", page, count=1))
        done = verify()
        assert done.exit_code == 1
        assert re.match(r"index.html: line \d+ is '.*9 %.*', but the records give '.*\d\.\d %", done.stdout)
    redraft("diagnose", "d")
    [*_, last] = map(Path, files())
    last.unlink()
    assert verify().stdout == f"{last.relative_to('d')} is gone.\nNot verified.\n"
    refused(redraft("diagnose", "d/runs", "--verify"), "d/runs contains no table.json.", "diagnose d/runs")
    refused(redraft("diagnose", "no.yaml", "--verify"), "there is no file or folder 'no.yaml'", "--choose")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("add", "--models", "defualt"), ("defualt", "Did you mean 'default'?")),
        (("add", "--models", "no.gguf"), ("a file of the model 'no.gguf' is missing", "Correct its path.")),
        (("subtraction",), ("there is no task or file named 'subtraction'", GSM8K)),
        (("test.jsonl",), ("the record has no list of `checks`", "use --choose with --judge MODEL.")),
        (("add", "--ways", "one,guess"), ("'guess' is not a value of --ways. Ways: one, revise",)),
        (("add", "--ways", "best-of"), ("'best-of' is not a value of --ways. Did you mean 'best'? Ways:",)),
        (("add", "--equal", "money"), ("--equal money needs a price", "--price IN,OUT")),
        (("test.jsonl,gsm8k:test.jsonl",), ("two tasks are called 'test'",)),
        (("humaneval:test.jsonl",), ("--run-code",)),
        ((GSM8K, "--score", "words<=5"), ("--score needs files of chains",)),
        ((GSM8K, "test.jsonl"), ("a folder of runs was given with other files",)),
        ((GSM8K, "--drafts", "2"), ("--drafts cannot be set: each of --ways has its own number",)),
        ((GSM8K, "--mode", "best-of"), ("--mode best-of cannot be set", "--ways best")),
        ((GSM8K, "--max-revisions", "0"), ("--max-revisions is 0",)),
        ((GSM8K, "--check", "judge[7]:Is it kind?", "--judge", "default"), ("asks a judge",)),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(args: tuple[str, ...], said: tuple[str, ...]) -> None:
    refused(run(*args), *said)
    assert not Path("d").exists()


def test_files_that_differ_in_more_than_the_seed_are_no_runs_of_one_way() -> None:
    assert run(GSM8K, "--ways", "one,alone", "--seeds", "2").exit_code == 0
    [seeds] = Path("d/runs").glob("*/*")
    one, revise, alone = (f"{seeds}/seed-0/{way}.jsonl" for way in ("plain", "revise-2", "alone-2"))
    said = f"{one} and {alone} differ in more than the seed: max_revisions was 0 and is 1"
    refused(redraft("diagnose", one, alone), said, f"redraft report {one} {alone}")
    refused(redraft("diagnose", revise, alone), "way was revise-2 and is alone-2.")
    assert "3 items in 6 runs" in redraft("diagnose", alone, alone.replace("-0", "-1")).stdout


def test_a_folder_takes_no_runs_that_were_made_in_another_way(whole: Path) -> None:
    copytree(whole, "d")
    refused(run(GSM8K, "--temperature", "0.1", "--seed", "5"), "made differently: temperature", "delete d")
    assert not list(Path("d").rglob("seed-5"))


def test_the_name_of_a_task_is_no_pattern() -> None:
    Path("test.jsonl").rename("my[1].jsonl")
    assert run("gsm8k:my[1].jsonl", "--ways", "one").exit_code == 0
    assert "the scores of 7 answers" in verify().stdout
    write("my[1].jsonl", [{"question": "Another?", "answer": "#### 5"}])
    refused(run("gsm8k:my[1].jsonl"), "my[1].jsonl has changed since it was answered", "name a new folder")


def test_files_that_hold_no_questions_are_refused(whole: Path) -> None:
    Path("empty.jsonl").touch()
    refused(run("empty.jsonl"), "empty.jsonl has no record.")
    refused(run("empty.jsonl", "--choose", "w.yaml"), "empty.jsonl has no record.")
    write("answered.jsonl", [json.loads(next(iter(whole.rglob("plain.jsonl"))).read_text().splitlines()[0])])
    refused(run("gsm8k:answered.jsonl"), "has answers of redraft eval")


def prompts(count: int) -> None:
    asked = (f"Describe rain. ({n})" for n in range(count))
    write("own.jsonl", [{"prompt": prompt, "checks": ["contains:rain"]} for prompt in asked])


def chosen(*more: str, ways: str = "one,best", model: str = "script") -> Result:
    flags = ("-j", "1", "--models", f"script:{model}.jsonl", "--ways", ways, "--margin", "10", *more)
    return redraft("diagnose", "d", "--tasks", "own.jsonl", "--choose", "way.yaml", *flags)


def test_a_way_is_chosen_early_and_other_verbs_go_it(caplog: pytest.LogCaptureFixture) -> None:
    prompts(200)
    script(*["sun", "rain"] * 800)
    result = chosen()
    assert result.exit_code == 0, result.output
    sentence = r"Choose best of 4: after (\d+) of 200 prompts, no way does better by 10 points"
    found = re.search(sentence, result.stdout)
    assert found, result.stdout
    assert len(run_of("plain")) == int(found[1]) < 200
    decided = re.findall(r"best of 4 minus .* at least (\S+)  certainly not behind by", result.stdout)
    assert min(map(float, decided)) > -10
    text = Path("way.yaml").read_text()
    assert {"mode: best-of", "drafts: 4"} <= {*text.splitlines()}
    before = files()
    assert chosen().stdout == result.stdout
    assert json.loads(chosen("--json").stdout)["promise"]["way"] == "best-of-4"
    assert files() == before
    asked = redraft("ask", "Describe rain.", "--recipe", "way.yaml", "--check", "contains:rain")
    assert (asked.stdout, "promise" in asked.stderr) == ("rain\n", False)
    options: Any = recipe("way.yaml", ["contains:rain"])
    assert revise("Describe rain.", **options).answer == "rain"
    assert not caplog.messages
    recipe("way.yaml", ["lacks:sun"])
    recipe("way.yaml")
    said = "the promise of way.yaml does not cover answers with{} check{}. Covered checks: contains.{}"
    give = " Give them here: redraft.recipe('way.yaml', checks)"
    assert caplog.messages == [said.format(" the", " lacks", ""), said.format("out", "s", give)]


def promise() -> str:
    prompts(30)
    script(*["sun", "rain"] * 200)
    assert chosen().exit_code == 0
    return Path("way.yaml").read_text()


def verified() -> str:
    done = redraft("diagnose", "way.yaml", "--verify")
    assert done.exit_code == 1
    return done.stdout


def test_a_promise_is_verified_to_the_word() -> None:
    text = promise()
    Path("script.jsonl").rename("gone.jsonl")
    done = redraft("diagnose", "way.yaml", "--verify")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(r"Verified: the promise, and \d+ answers\.\n", done.stdout)
    for before, after, said in (
        ("  gain: .*", "  gain: 0.99", "promise.gain is 0.99, but the records give 0."),
        ("drafts: 4", "drafts: 2", "drafts is 2, but the records give 4."),
        ("mode:", "temperature: 1.9\nmode:", "temperature is 1.9, but the records give nothing."),
        ("  - contains", "  - lacks", "promise.checks[0] is 'lacks', but the records give 'contains'."),
        ("hoose best of 4", "hoose best of 9", "about is '"),
        ("  date: .*", "", "promise.date is not set, but the records give '20"),
        ("drift: tell", "drift: two", "promise.drift is 'two', but the records give 'tell'."),
        ("margin: 0.1", "margin: none", "promise.margin is 'none', but the records give 0.1."),
        ("  ways:", "  more: 1\n  ways:", "promise.more is 1, but the records give nothing."),
    ):
        Path("way.yaml").write_text(re.sub(before, after, text))
        told = verified()
        assert f"way.yaml: {said}" in told
        assert told.count("way.yaml: ") == 1
    Path("way.yaml").write_text(text.replace("answer.'", "reply.'"))
    assert re.search(r"about is ….* reply\.', but the records give ….* answer\.'\.\n", verified())
    Path("way.yaml").write_text(text.replace("drift: tell", "drift: one"))
    assert redraft("diagnose", "way.yaml", "--verify").exit_code == 0, "its user may set that"
    Path("way.yaml").write_text(text.replace("evidence: d", "evidence: []"))
    refused(redraft("diagnose", "way.yaml", "--verify"), "names no folder of runs in its field")


def test_a_promise_is_verified_from_the_chains_that_it_rests_on() -> None:
    text, [file] = promise(), Path("d/runs").glob("*/own/seed-0/best-of-4.jsonl")
    Path("way").mkdir()
    assert redraft("diagnose", "way.yaml", "--verify").exit_code == 0, "its evidence is in d, not beside it"
    Path("way").rmdir()
    chains = file.read_text()
    file.write_text(chains.replace('"passed":true', '"passed":false'))
    edited = verified()
    assert "the stored results disagree with the task's checks" in edited
    assert "way.yaml: promise.right is " in edited
    file.write_text("".join(chains.splitlines(keepends=True)[1:]))
    assert "way.yaml: promise.right is " in verified()
    file.write_text(f"{chains}\n")
    assert f"{file.relative_to('d')} was changed afterwards." in verified()
    file.write_text(chains)
    Path("d").rename("elsewhere")
    refused(redraft("diagnose", "way.yaml", "--verify"), "runs/ in d is missing or damaged.")
    for edit, said in (
        ("evidence: " + "d" * 5000, "d is missing or damaged."),
        ("more: &a [*a]\n  evidence: d", "way.yaml has a YAML alias"),
        ("\n  ".join(f"x{n}: 1" for n in range(50)) + "\n  evidence: elsewhere", "not shown: 30."),
    ):
        Path("way.yaml").write_text(text.replace("evidence: d", edit))
        assert said in redraft("diagnose", "way.yaml", "--verify").output
    Path("way.yaml").write_text(text)
    Path("elsewhere").rename("way")
    assert redraft("diagnose", "way.yaml", "--verify").exit_code == 0
    refused(redraft("diagnose", "way", "--verify"), "contains no table", "redraft diagnose way.yaml --verify")
    copytree("way", "d")
    copytree("d", "of/d")
    Path("way.yaml").rename("of/way.yaml")
    rmtree("d/runs")
    assert redraft("diagnose", "of/way.yaml", "--verify").exit_code == 0, "its own folder comes first"
    rmtree("of/d/tasks")
    refused(redraft("diagnose", "of/way.yaml", "--verify"), "own.jsonl cannot be read")
    rmtree("of/d/runs")
    lacks = "d is missing or damaged."
    for damage in ("[" * 20_000, '{"files": {}, "way": {}}', ""):
        refused(redraft("diagnose", "of/way.yaml", "--verify"), lacks)
        Path("of/d/choice.json").write_text(damage)


def test_a_use_that_a_promise_says_nothing_about_is_told() -> None:
    text = promise()
    script("rain", name="other")
    asked = ("ask", "Describe rain.", "--recipe", "way.yaml", "--check")
    other = redraft(*asked, "contains:rain", "--model", "script:other.jsonl")
    assert "does not apply here: the recipe's model is script:script.jsonl, but" in other.stderr
    assert "here: the recipe was chosen without the check lacks." in redraft(*asked, "lacks:sun").stderr
    warmer = redraft(*asked, "contains:rain", "--temperature", "1.5").stderr
    assert "the recipe's temperature is not set, but 1.5 was given" in warmer
    Path("way.yaml").write_text(text.replace("drafts: 4", "drafts: 2"))
    assert "not apply here: the recipe's options were edited (" in redraft(*asked, "contains:rain").stderr
    Path("way.yaml").write_text(text)
    script("rain", "and more")
    assert "the files of the recipe's model have changed" in redraft(*asked, "contains:rain").stderr


@pytest.mark.parametrize("words", [("ask", "Describe rain."), ("chat",)])
def test_a_use_without_checks_is_told(words: tuple[str, ...]) -> None:
    prompts(30)
    script("rain")
    assert chosen(ways="one").exit_code == 0
    asked = (*words, "--recipe", "way.yaml")
    said = "the promise of way.yaml does not cover answers without checks. Covered checks: contains."
    assert redraft(*asked, stdin="Describe rain.\n").stderr.count(said) == 1
    assert said not in redraft(*asked, "--check", "contains:rain", stdin="Describe rain.\n").stderr


def test_answers_that_break_the_promise_are_told() -> None:
    prompts(60)
    script(*["sun", "rain"] * 300)
    assert chosen().exit_code == 0
    write("own.jsonl", [{"prompt": f"Describe sun. ({n})", "checks": ["contains:snow"]} for n in range(40)])
    done = redraft("answer", "own.jsonl", "-o", "out.jsonl", "--recipe", "way.yaml", "-j", "1")
    assert done.stderr.count("way.yaml promises that at least") == 1, done.stderr
    assert all(len(chain.drafts) == 3 for chain in chains_of("out.jsonl"))
    text = Path("way.yaml").read_text()
    Path("way.yaml").write_text(text.replace("drift: tell", "drift: one"))
    redraft("answer", "own.jsonl", "-o", "one.jsonl", "--recipe", "way.yaml", "-j", "1")
    drafts = [len(chain.drafts) for chain in chains_of("one.jsonl")]
    assert (drafts[0], drafts[-1]) == (3, 0)
    again = ("answer", "own.jsonl", "-o", "again.jsonl", "--recipe", "way.yaml", "-j", "1")
    said = [redraft(*again, "--limit-tokens", limit).stderr for limit in (30, 9999)]
    assert ["promises that at least" in each for each in said] == [False, True]
    assert [len(chain.drafts) for chain in chains_of("again.jsonl")] == drafts  # what is in the file counts
    for before, after, said in (
        ("right: .*", "right: 1.7", ("way.yaml: promise.right is 1.7.", "at least 0 and at most 1")),
        ("drift: tell", "drift: two", ("way.yaml: promise.drift is 'two'.", "It should be tell or one.")),
        ("drift: tell", "drifts: one", ("no option 'promise.drifts'. Did you mean 'promise.drift'",)),
        ("  right: .*", "", ("way.yaml: promise.right is missing.", "It should be a number")),
        ("- contains", "- 1", ("way.yaml: promise.checks: item 1 is 1.", "It should be a text")),
    ):
        Path("way.yaml").write_text(re.sub(before, after, text))
        refused(redraft("ask", "Hi.", "--recipe", "way.yaml"), *said)
    Path("way.yaml").write_text("promise: [1]")
    refused(redraft("ask", "Hi.", "--recipe", "way.yaml"), "way.yaml: promise is a list", "--choose again")


def test_while_nothing_is_certain_the_choice_says_so() -> None:
    prompts(20)
    script("rain")
    result = chosen()
    assert "Undecided after 20 of 20 prompts: one answer leads, but another way may be b" in result.stdout
    assert "With 95 % confidence: at least " in result.stdout
    ways = ("--ways", "one,best", "--margin", "10")
    shorter = ("--models", "script:script.jsonl", *ways, "--choose", "d.yaml")
    assert redraft("diagnose", "own.jsonl", *shorter, "-j", "1").stdout.startswith(result.stdout[:300])
    usual = redraft("diagnose", "own.jsonl", *shorter[:2], "--choose", "e.yaml", "-j", "1")
    said = ("best of 4" in usual.stdout, "steered" in usual.stdout)
    assert said == (True, False), "a script cannot be steered"
    assert "certain: false" in Path("way.yaml").read_text()


def test_what_cannot_be_chosen_is_refused_and_no_other_file_is_replaced() -> None:
    prompts(3)
    refused(chosen(ways="one,vote,best"), "there are no votes to count.", "numbers or short answers")
    refused(chosen("--tasks", GSM8K), "the checks of gsm8k need the right answers", "--check")
    refused(chosen("--tasks", "add"), "the checks of add need", "--check 'matches:[0-9]', and leave")
    other = ("diagnose", "e", "--tasks", "own.jsonl", *FEW)
    assert redraft(*other).exit_code == 0
    refused(redraft(*other, "--choose", "x.yaml"), "e has runs without it.")
    script("rain")
    assert chosen(ways="one").exit_code == 0
    edited = Path("way.yaml").read_text() + "# my own\n"
    Path("way.yaml").write_text(edited)
    refused(chosen(ways="one"), "way.yaml exists, and is not the recipe that --choose wrote from d")
    assert Path("way.yaml").read_text() == edited
    Path("way.yaml").write_text("check: [words<=9]\n")
    refused(chosen(), "way.yaml exists, and is not the recipe that --choose wrote from d.", "Move it away")
    refused(chosen("--verify"), "--verify cannot be combined", "redraft diagnose way.yaml --verify")
    refused(redraft("diagnose", "way.yaml", "--verify"), "names no folder of runs in its field")
    refused(redraft("diagnose", "own.jsonl", "--choose", "d"), "d is the folder of the runs, not", "d.yaml")


def test_a_way_without_checks_is_chosen_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    prompts(30)
    script(*["sun"] * 20, *["sun", "It lacks rain. Revision is needed.", "rain"] * 20)
    result = chosen("--margin", "20", "--check", "contains:rain", ways="one,alone")
    assert "Choose revise alone, 1 revision: after 20 of 30 prompts, no way does" in result.stdout
    assert "\ncheck:" not in Path("way.yaml").read_text()
    asked = ("ask", "Describe rain.", "--recipe", "way.yaml", "--json")
    alone = redraft(*asked)
    assert json.loads(alone.stdout)["model"]["revision_mode"] == "prompted"
    assert "checks" not in recipe("way.yaml")
    assert (alone.stderr, caplog.messages) == ("", [])
    assert "without the check contains." in redraft(*asked, "--check", "contains:rain").stderr
    said = "does not cover answers with the check contains. It covers answers without checks."
    done = redraft("answer", "own.jsonl", "-o", "out.jsonl", "--recipe", "way.yaml", "-j", "1")
    assert done.stderr.count(said) == 1
    done = redraft("eval", "checks", "own.jsonl", "-o", "eval.jsonl", "--recipe", "way.yaml")
    assert "promises" not in done.stderr
    assert {chain.model["revision_mode"] for chain in chains_of("eval.jsonl")} == {"prompted"}


def test_votes_and_controls_are_compared_and_never_chosen() -> None:
    write("own.jsonl", [{"prompt": f"How many? ({n})", "checks": ["number=7"]} for n in range(40)])
    script(*["8", "7", "7"] * 900)
    result = chosen("--margin", "20", ways="one,vote,early,shuffled")
    assert result.exit_code == 0, result.output
    assert all(f"\n{way}" in result.stdout for way in ("revise, 1", "majority v", "early v", "shuffled"))
    assert re.search(r"\nBlind .*are never .*\nA vote is never chosen: .* run redraft answer", result.stdout)
    assert "no way that can be chosen does better by 20 points or more" in result.stdout
    assert redraft("diagnose", "way.yaml", "--verify").exit_code == 0


def test_a_limit_before_the_first_block_is_whole_chooses_nothing() -> None:
    prompts(30)
    script(*["sun", "rain"] * 200)
    limited = chosen("--price", "0,1000000", "--limit-usd", "40")
    assert (limited.exit_code, limited.stdout) == (4, "")
    assert not Path("way.yaml").exists()
    assert chosen("--price", "0,1000000", "--limit-seconds", "0.001").exit_code == 4
    done = chosen("--price", "0,1000000", "--ways", "one,best,verified", "--equal", "money").stdout
    assert "of 30 prompts" in done
    assert re.search(r"equal money: .*\nverified.* minus best of N  .* to .*  at \S+ USD\n", done), done
    assert re.search(r"one answer .* 3\.\d new tokens, 3\.\d{6} USD", done), done
    assert re.search(r"  tokens: (\S+)\n  usd: \1\n", Path("way.yaml").read_text()), "a USD a token"


def test_after_a_limit_within_a_block_the_choice_rests_on_whole_blocks_and_is_verified() -> None:
    prompts(60)
    script(*["sun", "rain"] * 200)
    limited = chosen("--margin", "1", "--price", "0,1000000", "--limit-usd", "165")
    assert (limited.exit_code, "after 20 of 60 prompts" in limited.stdout) == (4, True), limited.output
    assert len(run_of("plain")) > 20
    assert redraft("diagnose", "way.yaml", "--verify").exit_code == 0


def test_prompts_may_be_added_and_other_runs_in_the_folder_do_not_count() -> None:
    prompts(20)
    script(*["sun", "rain"] * 400)
    assert "20 of 20 prompts" in chosen().stdout
    before = files()
    prompts(60)
    assert " of 60 prompts" in chosen().stdout
    assert all(files()[name].startswith(text) for name, text in before.items())
    script(*["rain"] * 400, name="other")
    other = chosen(model="other")
    assert ("100.0 % of" in other.stdout, "50.0 %" in other.stdout) == (True, False)


def test_of_tasks_of_unequal_size_each_prompt_counts_the_same() -> None:
    prompts(30)
    write("few.jsonl", [{"prompt": f"Describe snow. ({n})", "checks": ["contains:snow"]} for n in range(10)])
    script("rain")
    result = chosen("--tasks", "own.jsonl,few.jsonl")
    assert "75.0 % of 40 right" in result.stdout, result.stdout
    assert len(list(Path("d/runs").glob("*/few/seed-0/plain.jsonl"))) == 1


def test_a_prompt_counts_once_with_the_same_checks() -> None:
    record = {"prompt": "Describe rain.", "checks": ["contains:rain"]}
    write("own.jsonl", [record, record, {**record, "checks": ["words<=9"]}])
    result = chosen()
    assert "after 2 of 2 prompts" in result.stdout
    assert result.stderr.count("Left out: 1 prompt that own.jsonl repeats with the same checks.") == 1


def by_judge(server: PaidServer, ways: str = "one,revise", count: int = 40, status: int = 0) -> str:
    write("own.jsonl", [{"prompt": f"Describe rain. ({n})"} for n in range(count)])
    flags = ("--model", server.model, "--judge", server.model, "--ways", ways, "--margin", "10", "-j", "1")
    result = redraft("diagnose", "own.jsonl", *flags, "--choose", "way.yaml", "--samples", "2")
    assert result.exit_code == status, result.stderr
    return result.stdout


def says(messages: Any) -> str:
    """A writer whose revisions are longer, of all prompts but one, and a judge who likes that."""
    if texts := re.findall(r"Answer of Assistant \d:\n(=== \w+)\n(.*?)\n\1", messages[-1]["content"], re.S):
        first, second = (len(text) for _, text in texts)
        return f"[[{5 + (first > second)}, {5 + (second > first)}]]"
    last = "It." if "(11)" in str(messages) else "Rain falls from clouds."
    return ["Rain.", "Too short. Revision is needed.", last][sum(m["role"] == "assistant" for m in messages)]


def test_without_checks_a_judge_compares_the_answers_and_what_it_said_is_kept() -> None:
    with PaidServer(says) as server:
        result = by_judge(server)
        assert f"As {server.model} judges: Choose revise, 1 revision: after 20 of 40 prompts" in result
        row = r"preferred in 19 of 20, worse in 1, .*\n.* 40 reviews, 0 cannot be read; 280 "
        assert re.search(row, result)
        assert re.search(r"single answer at least \d\S+ points more often than worse, and at most ", result)
        [file], paid = Path("way").rglob("pairs.reviews-2.jsonl"), len(server.messages)
        text, way = file.read_text(), Path("way.yaml").read_text()
        file.write_text("".join(text.splitlines(keepends=True)[:3]))  # as if it had been stopped there
        assert (by_judge(server), len(server.messages)) == (result, paid)
    assert (f"  judge: {server.model}\n" in way, "\njudge:" in way) == (True, False), "not asked in use"
    assert redraft("diagnose", "way.yaml", "--verify").exit_code == 0
    said = "a judge compared the answers in way, so there are no scores for a table."
    refused(redraft("diagnose", "way"), said)
    file.write_text(text.replace('"score":[6.0,5.0]', '"score":[1.0,1.0]'))
    edited = redraft("diagnose", "way.yaml", "--verify").stdout
    assert re.search(r"promise.gain is (?s:.*)pairs.reviews-2.jsonl was changed afterwards.", edited)


def test_a_judge_of_the_first_place_decides_nothing() -> None:
    with PaidServer(lambda asked: "[[9, 1]]" if "Assistant 2:" in str(asked) else says(asked)) as server:
        result = by_judge(server)
    assert "judges: Undecided after 40 of 40 prompts: one answer leads, but another" in result
    assert re.search(r"revise, 1 revision +\+0.0 .* open; preferred in 0 of 40, worse in 0, ", result)


def test_a_judge_that_no_one_can_read_is_a_failure() -> None:
    with PaidServer(lambda asked: "Hm." if "Assistant 2:" in str(asked) else says(asked)) as server:
        assert "20 reviews, 20 cannot be read" in by_judge(server, count=10, status=3)


def test_without_checks_the_judge_chooses_the_best_of_several_too() -> None:
    drafts = cycle(["Rain.", "Rain falls from clouds."])

    def draws(messages: Any) -> str:
        if "Rubric:" in str(messages):
            return "Score: 10" if "clouds" in str(messages) else "Score: 3"
        return says(messages) if "Assistant 2:" in str(messages) else next(drafts)

    with PaidServer(draws) as server:
        assert "judges: Choose best of 2: after " in by_judge(server, "one,best")
        assert redraft("ask", "Rain?", "--recipe", "way.yaml").stdout == "Rain falls from clouds.\n"


def test_a_judge_is_for_choosing_by_prompts_alone() -> None:
    refused(redraft("diagnose", "d", "--tasks", GSM8K, "--judge", "default"), "--judge needs --choose.")
    prompts(2)
    refused(chosen("--judge", "a", "--judge", "b"), "--judge was given twice.", "--judge a")
    refused(chosen("--judge", "default"), "checks, so no judge is needed.", "Or leave out --judge")
    refused(chosen("--judge", "default", "--tasks", GSM8K, "--check", "words<=9"), "leave --judge out")
    write("own.jsonl", [{"prompt": f"Describe rain. ({n})"} for n in range(25)])
    judged = chosen("--judge", "script:script.jsonl", ways="one,best,steered")
    assert "redraft: best-of-2, seed 0: 20 prompts\n" in judged.stderr
    assert "no pair was judged, because all answers equal the single answers; " in judged.stdout
    assert judged.stderr.count("`steered` is left out: only checks can steer, and there are none.") == 1
