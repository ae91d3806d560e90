from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft.chain.read.records import raw_records
from redraft.evaluation.judging.reviews import Review, read_reviews
from tests.cli import verbs
from tests.cli.verbs import lines, redraft, script, write
from tests.engines.batch_server import BatchServer
from tests.engines.paid_server import PaidServer
from tests.evaluation.made import answer

QUESTIONS = {1: "math", 2: "generic", "drei": "coding"}
GOOD = '{"review": "Fine.", "score_1": 8, "score_2": 7}'


@pytest.fixture(autouse=True)
def _answers(_folder: None) -> None:
    records = [
        {"question_id": id_, "text": f"Why {id_}?", "category": name} for id_, name in QUESTIONS.items()
    ]
    write("questions.jsonl", records)
    write("new.jsonl", [answer("new", id_, f"Neu: Wärme 🌳 {id_}.") for id_ in QUESTIONS])
    write("old.jsonl", [answer("old", id_, "<b>Because.</b>") for id_ in QUESTIONS])


def run(*words: str) -> Result:
    return redraft("judge", *words)


def judge(model: str, *words: str, answers: tuple[str, ...] = ("new.jsonl", "old.jsonl")) -> Result:
    given = [] if "--questions" in words else ["--questions", "questions.jsonl"]
    return run(*answers, "-o", "out.jsonl", "-m", model, "-j", "1", *given, *words)


def reviews(path: str = "out.jsonl") -> list[Review]:
    return [review for _, review in read_reviews(raw_records(Path(path)))]


def rows(result: Result) -> dict[str, str]:
    assert result.exit_code == 0, result.output
    return {line[:12].strip(): line[12:].strip() for line in result.stdout.splitlines()}


def refused(result: Result, *parts: str) -> None:
    verbs.refused(result, *parts)
    assert not Path("out.jsonl").exists()


def test_reviews_in_both_orders_that_the_report_reads() -> None:
    found = rows(judge(script("The first is warmer.\n[[9, 6]]", "The first is dull.\n[[5, 8]]")))
    assert found["reviews"] == "6 in out.jsonl"
    made = reviews()
    assert [(each.question_id, each.model_1, each.answer1_id) for each in made[:3]] == [
        (1, "new", "new-1"),
        (1, "old", "old-1"),
        (2, "new", "new-2"),
    ]
    assert [each.score for each in made[:2]] == [(9, 6), (5, 8)]
    assert [each.reviewer_id for each in made[::2]] == [
        "scores-mathematics",
        "scores-general",
        "scores-coding",
    ]
    assert {each.judge for each in made} == {"script"}
    assert len({each.review_id for each in made}) == 6
    pytest.importorskip("scipy")
    shown = redraft(*found["next"].split()[1:])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("new against old: 3 questions, 6 reviews in both orders")
    assert "6 won, 0 tied, 0 lost" in shown.stdout


def test_a_reply_without_a_score_is_asked_for_it_once_and_never_gets_one() -> None:
    replies = ["I refuse.", "[[7, 7]]", "The answer claims [[10, 1]], as I said.", "No."]
    found = rows(judge(script(*replies), "--orders", "given"))
    assert found["asked again"] == "3 could not be read at first"
    assert found["unreadable"] == "1, of questions 2"
    assert [each.score for each in reviews()] == [(7, 7), None, (7, 7)]
    unread = reviews()[1]
    assert unread.text == "The answer claims [[10, 1]], as I said.\n\nNo."
    with pytest.raises(ValueError, match="could not be read"):
        unread.verdict()


def test_a_judge_that_refuses_everything_is_counted_and_is_a_failure() -> None:
    result = judge(script("I'm sorry, but I can't help with that."))
    assert result.exit_code == 3, "nothing came of it"
    assert "unreadable  6, of questions 1, 2, drei" in result.stdout
    assert "next" not in result.stdout


def test_identical_answers_tie_and_the_judge_is_not_asked() -> None:
    same = answer("old", 1, "Neu: Wärme 🌳 1.")
    write("old.jsonl", [same, *[answer("old", id_, "Because.") for id_ in (2, "drei")]])
    model = script("[[9, 6]]", "[[5, 8]]", "[[9, 6]]", "[[9, 6]]")
    for earlier in ("", ", 4 of them from earlier runs"):
        found = rows(judge(model))
        assert found["reviews"] == f"4 in out.jsonl{earlier}"
    assert found["same text"] == "2 more lines: identical answers tie without a review"
    few = rows(judge(script("[[9, 6]]", "[[5, 8]]"), "--limit", "2", "-o", "few.jsonl"))
    assert few["reviews"] == "2 in few.jsonl"
    pytest.importorskip("scipy")
    said = r"(?s).* 3 won, 2 tied, 1 lost\n.*agree +50.0 % .*a tie; without 1 tie of identical answers\n"
    assert re.match(said, redraft(*found["next"].split()[1:]).stdout)


def many(count: int) -> tuple[str, str]:
    for name in ("a", "b"):
        write(f"{name}.jsonl", [answer(name, n, f"{name} {n}.") for n in range(count)])
    return "a.jsonl", "b.jsonl"


def test_after_the_first_20_reviews_of_which_most_cannot_be_read_it_stops_with_the_reason() -> None:
    asked = write("asked.jsonl", [{"question_id": n, "text": "Why?"} for n in range(40)])
    words = ("--questions", str(asked))
    result = judge(script("I'm sorry, but I can't help."), *words, answers=many(40))
    assert result.exit_code == 3
    said = " ".join(result.stderr.split())
    assert "20 of the first 20 reviews cannot be read. The last reply ends with " in said
    assert "but I can't help." in said
    assert "20 of 80 done" in said
    assert len(reviews()) == 20
    assert "unreadable  20, of questions 0, 1, 2, 3, 4 …" in result.stdout
    again = judge("script:script.jsonl", *words, "--quiet", answers=many(40))
    assert (again.exit_code, len(reviews())) == (3, 40), "the same command goes on for 20 more"


def test_grades_of_a_single_model() -> None:
    found = rows(judge(script("Good.\n[[7]]", "Poor.\n[[4]]"), answers=("new.jsonl",)))
    assert found["grades"] == "3 in out.jsonl"
    first = lines("out.jsonl")[0]
    assert (first["model"], first["score"], first["turn"]) == ("new", 7.0, 1)
    assert first["judge"] == ["script", "grades-mathematics"]


def test_the_judge_of_the_config_file_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text(f'[defaults]\nmodel = "none.gguf"\njudge = "{script("[[9, 6]]")}"\n')
    monkeypatch.setenv("REDRAFT_CONFIG", "config.toml")
    result = run("new.jsonl", "old.jsonl", "--questions", "questions.jsonl", "-o", "out.jsonl")
    assert rows(result)["reviews"] == "6 in out.jsonl"


def test_a_stopped_run_goes_on_and_pays_for_nothing_twice() -> None:
    with PaidServer(lambda _: GOOD) as server:
        first = judge(server.model, "--limit-tokens", "20")
        assert first.exit_code == 4, first.output
        assert "3 of 6 done; run the same command again to resume." in first.stderr
        assert rows(judge(server.model))["reviews"] == "6 in out.jsonl, 3 of them from earlier runs"
        rows(judge(server.model))
        assert len(server.messages) == 6
        # The replies are in the journal, for another output too.
        shutil.copy("out.jsonl.journal.db", "again.jsonl.journal.db")
        again = rows(judge(server.model, "-o", "again.jsonl"))
        assert len(server.messages) == 6
    assert again["paid"] == "0 new tokens; reused from the journal: 6"
    assert Path("again.jsonl").read_bytes() == Path("out.jsonl").read_bytes()


def test_other_answers_or_settings_are_not_mixed_into_an_output() -> None:
    model = script("[[9, 6]]")
    judge(model)
    assert "way was scores and is verdicts" in judge(model, "--way", "verdicts").output
    write("old.jsonl", [answer("old", id_, "Other.") for id_ in QUESTIONS])
    result = judge(model)
    assert result.exit_code != 0
    assert "inputs (new.jsonl, old.jsonl, questions.jsonl) changed" in result.output


def test_what_does_not_fit_is_refused() -> None:
    model = script("[[9, 6]]")
    refused(judge(model, "--way", "grades"), "--way grades needs the answers of one model")
    refused(judge(model, "--way", "scores", answers=("new.jsonl",)), "needs the answers of two models")
    refused(judge(model, answers=("new.jsonl", "old.jsonl", "new.jsonl")), "3 files of answers were given")
    refused(judge(model, "--recipe", "strict"), "there is no recipe 'strict'. Give a YAML file.")
    refused(judge(model, "--gold"), "no question has a gold answer")
    refused(run("new.jsonl", "old.jsonl", "-o", "-"), "the output has to be a file")
    assert "would replace the input new.jsonl" in judge(model, "-o", "new.jsonl").output
    refused(judge(model, answers=("none.jsonl", "old.jsonl")), "none.jsonl")


@pytest.mark.slow
def test_a_servers_batches_give_the_same_reviews() -> None:
    seen: list[Any] = []

    def says(body: dict[str, Any]) -> str:
        seen.append(body)
        lacks = len(body["messages"]) == 2 and "drei" in body["messages"][1]["content"]
        return "No score." if lacks else GOOD

    with BatchServer(says=says, swift=True) as server:
        batch = ("--batch", "--pause", "0.05", "-j", "9")
        limited = judge(server.model, *batch, "--limit-tokens", "1")
        assert (limited.exit_code, len(server.batches)) == (4, 1)
        assert "the limit of 1 token is reached" in limited.stderr
        assert rows(judge(server.model, *batch))["reviews"] == "6 in out.jsonl, 4 of them from earlier runs"
        assert server.live == []
        assert len(server.batches) == 2  # the second one asks for what was missing
        batched = sorted(Path("out.jsonl").read_text().splitlines())
        assert rows(judge(f"{server.url}#gull", "-o", "live.jsonl"))["asked again"].startswith("2 ")
    assert sorted(Path("live.jsonl").read_text().splitlines()) == batched
