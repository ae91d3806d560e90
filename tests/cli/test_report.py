"""`redraft report`, as a user types it: the table, the JSON, and what is refused or listed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("scipy")

from redraft.cli import app
from tests.evaluation.made import answer, both, review, write


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["report", "--draws", "200", *map(str, args)], prog_name="redraft")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    records = [*both(1, (9, 9), (8, 7)), *both(2, (8, 7), (8, 9)), *both("drei", (9, 9.5), (8, 8))]
    return write(tmp_path / "reviews.jsonl", records)


@pytest.fixture
def answers(tmp_path: Path) -> list[object]:
    given: list[object] = []
    for model, text in (("new", "Ein längerer Satz über Bäume 🌳."), ("old", "短い")):
        records = [answer(model, question, text) for question in (1, 2, "drei")]
        given += ["--answers", write(tmp_path / f"{model}.jsonl", records)]
    return given


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    for part in parts:
        assert part in " ".join(result.output.split()), result.output
    assert "Traceback" not in result.output


def test_the_table(reviews: Path, answers: list[object]) -> None:
    found = lines(run(reviews, *answers))
    assert found[0] == "new against old: 3 questions, 6 reviews in both orders"
    assert found[1].startswith("ratio of scores 107.29 % ")
    assert found[1].endswith(" 51.5 of 48")
    assert "shown first 108.33 % 26 of 24" in found
    assert any(
        line.startswith("win rate 75.0 %") and line.endswith("4 won, 1 tied, 1 lost") for line in found
    )
    assert "in both orders 2 won, 1 tied, 0 lost, p = 0.5" in found
    assert not any("unreadable" in line or "not counted" in line for line in found)


def test_json_has_all_figures_and_no_nan(reviews: Path, answers: list[object]) -> None:
    result = run(reviews, *answers, "--json")
    assert "NaN" not in result.stdout
    [found] = json.loads(result.stdout)["comparisons"]
    assert found["ratio"]["value"] == pytest.approx(51.5 / 48)
    assert found["sums"] == [[26, 24], [25.5, 24]]
    assert found["both"] == {"wins": 2, "ties": 1, "losses": 0}
    assert found["length_bias"]["opponent"] == 2
    assert found["length_bias"]["win_rate"] == {"value": None, "low": None, "high": None}
    assert (found["draws"], found["seed"]) == (200, 1)


def test_the_seed_decides_the_interval(reviews: Path) -> None:
    assert run(reviews).stdout == run(reviews).stdout


@pytest.mark.parametrize("draws", ["0", "99", "1000001", "100000000000", "many"])
def test_a_number_of_resamples_that_no_memory_holds_is_refused(reviews: Path, draws: str) -> None:
    refused(run(reviews, "--draws", draws), "Invalid value for '--draws'")


def test_two_judges_and_their_agreement(tmp_path: Path) -> None:
    scores = {"strict": (7, 7), "kind": (9, 8), "": (6, 6)}
    records = [
        {**each, "review_id": f"{judge}{each['review_id']}"} | ({"judge": judge} if judge else {})
        for judge, ours in scores.items()
        for n in range(8)
        for each in both(n, ours if n else (9, 9), (8, 8))
    ]
    path = write(tmp_path / "r.jsonl", records)
    found = lines(run(path))
    # Of 16 reviews, both judges say that the model wins in both of question 0. Of the others, "strict" says
    # that it loses, and "kind" that it wins when shown first and ties when shown second.
    assert any(line.startswith("judges agree 12.5 %") for line in found)
    assert sum("strict and kind, 16 reviews" in line for line in found) == 1
    assert sum(line.startswith("judges agree") for line in found) == 1
    [judges] = json.loads(run(path, "--json").stdout)["comparisons"][0]["judges"]
    assert (judges["reviews"], judges["agreement"]["value"]) == (16, 0.125)


def test_half_of_an_order_is_left_out_and_listed(tmp_path: Path) -> None:
    records = [*both(1, (9, 9), (8, 8)), review(2, "new", "old", (9, 3)), review(3, "old", "new", (9, 3))]
    path = write(tmp_path / "r.jsonl", records)
    found = lines(run(path))
    assert found[0] == "A against B: 1 question, 2 reviews in both orders"
    why = "(readable with A shown first only)"
    assert f"not counted 2 {path}:3 {why}, {path}:4 {why}" in found


def test_reviews_in_one_order_only_count_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "new_vs_old.jsonl", [review(n, "new", "old", (9, 8)) for n in range(3)])
    found = lines(run(path))
    assert found[0] == "new against old: 3 questions, 3 reviews in one order"
    assert "order each pair was judged in one order only: the order may favour a side" in found


def test_unreadable_scores_are_counted_listed_and_never_made_up(tmp_path: Path) -> None:
    records = [*both(1, (9, 9), (8, 8)), *both(2, (9, 9), (8, 8)), *both(3, (9, 9), (8, 8))]
    records[2] |= {"score": [-1, -1], "text": "I prefer the point (10, 4)."}
    records[5] |= {"score": [12, 8]}
    path = write(tmp_path / "r.jsonl", records)
    found = " ".join(lines(run(path)))
    assert "1 question, 2 reviews in both orders" in found
    assert (
        f"unreadable 2 {path}:3 (no scores in the text), {path}:6 (scores outside 1 to 10: 12 and 8)" in found
    )
    assert "not counted 2" in found


@pytest.mark.parametrize("score", [None, [-1, -1], [0, 0], [math.nan, 8], [8, math.inf]])
def test_where_nothing_can_be_read_there_is_no_figure(tmp_path: Path, score: Any) -> None:
    path = write(
        tmp_path / "r.jsonl", [{**each, "score": score, "text": "…"} for each in both(1, (9, 9), (8, 8))]
    )
    refused(run(path), "no review can be read", "r.jsonl:1", "2 reviews")


def test_no_reviews_are_refused(tmp_path: Path) -> None:
    refused(run(write(tmp_path / "r.jsonl", [])), "there is no review in", "r.jsonl")
    refused(run(tmp_path / "none.jsonl"), "none.jsonl", "No such file")


def test_ties_alone_are_a_ratio_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [each for n in range(9) for each in both(n, (8, 8), (8, 8))])
    found = lines(run(path))
    assert "ratio of scores 100.00 % 56.85 to 175.91 144 of 144" in found
    assert "in both orders 0 won, 9 tied, 0 lost, p = 1" in found
    assert "kappa –" in found


def test_a_bad_file_is_named_and_the_others_are_described(tmp_path: Path, reviews: Path) -> None:
    bad, page = tmp_path / "bad.jsonl", tmp_path / "report.html"
    bad.write_text('{"question_id": 1')
    result = run(bad, reviews, "--html", page)
    assert result.exit_code == 2
    assert result.stdout.startswith("new against old: 3 questions") or result.stdout.startswith("A against B")
    assert f"left out: {bad}:1: not JSON" in " ".join(result.stderr.split())
    assert "Correct or delete that line." in result.stderr
    assert "bad.jsonl" in page.read_text().partition("left out")[2]
    found = json.loads(run(bad, reviews, "--json").stdout)
    assert ["bad.jsonl" in each for each in found["left_out_files"]] == [True]
    assert "left_out_files" not in json.loads(run(reviews, "--json").stdout)


def test_a_review_that_is_there_twice_is_refused(tmp_path: Path, reviews: Path) -> None:
    refused(run(reviews, reviews), "the review 'new>old:1' is also at", "reviews.jsonl:1")
    without_ids = [{**each, "review_id": ""} for each in both(1, (9, 9), (8, 8))]
    path = write(tmp_path / "r.jsonl", without_ids + without_ids)
    refused(run(path), "r.jsonl:3: this review is also at", "r.jsonl:1")


def test_reviews_of_other_questions_are_named(tmp_path: Path, reviews: Path) -> None:
    questions = write(tmp_path / "q.jsonl", [{"question_id": 1, "text": "Why?", "category": "x"}])
    refused(
        run(reviews, "--questions", questions),
        "reviews.jsonl:3: 4 reviews of questions that are not in",
        "2, drei",
    )


def test_questions_without_a_review_are_named(tmp_path: Path, reviews: Path) -> None:
    asked = [{"question_id": n, "text": "Why?", "category": "x"} for n in (1, 2, "drei", 77)]
    found = lines(run(reviews, "--questions", write(tmp_path / "q.jsonl", asked)))
    assert "without a review 1 77" in found
    assert any(line.startswith("x 107.3 %") and "3 questions" in line for line in found)


def test_a_question_whose_reviews_are_unreadable_is_not_without_a_review(tmp_path: Path) -> None:
    asked = [{"question_id": n, "text": "Why?"} for n in (1, 2)]
    path = write(tmp_path / "r.jsonl", [*both(1, (9, 9), (8, 8)), *both(2, (99, 9), (99, 8))])
    found = lines(run(path, "--questions", write(tmp_path / "q.jsonl", asked)))
    assert not any(line.startswith("without a review") for line in found), found
    assert any("unreadable" in line for line in found), found


def test_reviews_of_other_answers_are_named(tmp_path: Path, reviews: Path, answers: list[object]) -> None:
    refused(run(reviews, *answers[:2]), "reviews.jsonl:1: the answer 'old-1' is in none of new")
    other = write(tmp_path / "other.jsonl", [answer("old", 1, "x") | {"question_id": 7}])
    refused(run(reviews, *answers[:2], "--answers", other), "the answer of other is to question '7'")


def test_an_id_in_two_files_of_answers_is_refused(
    tmp_path: Path, reviews: Path, answers: list[object]
) -> None:
    copy = write(tmp_path / "copy.jsonl", [answer("new", 1, "x")])
    refused(
        run(reviews, *answers, "--answers", copy), "'new-1' is in new and copy: which of them was judged?"
    )
    twice = write(tmp_path / "twice.jsonl", [answer("new", 1, "x")] * 2)
    refused(run(reviews, "--answers", twice), "twice.jsonl: has the answer", "twice")


def test_a_question_that_is_there_twice_is_refused(tmp_path: Path, reviews: Path) -> None:
    asked = [{"question_id": n, "text": "Why?", "category": c} for n, c in ((1, "x"), (2, "x"), (1, "y"))]
    refused(run(reviews, "--questions", write(tmp_path / "q.jsonl", asked)), "q.jsonl: has question 1 twice")


def test_empty_answers_have_no_length_and_count_as_they_were_judged(tmp_path: Path, reviews: Path) -> None:
    given: list[object] = []
    for model, text in (("new", ""), ("old", "short")):
        records = [answer(model, question, text) for question in (1, 2, "drei")]
        given += ["--answers", write(tmp_path / f"{model}.jsonl", records)]
    found = lines(run(reviews, *given, "--html", tmp_path / "page.html"))
    assert found[0] == "new against old: 3 questions, 6 reviews in both orders"
    assert any(line.endswith("correlation; 0 characters against 5") for line in found)
    assert '"text": ""' in (tmp_path / "page.html").read_text("utf-8")


def test_names_may_be_of_any_script(tmp_path: Path) -> None:
    ids = ("große Möwe", "雨", "\u202eمطر", "🐦")
    folder = tmp_path / "Prüfung 雨"
    folder.mkdir()
    names = [{"model_1": "Möwe 🐦", "model_2": "カモメ"}, {"model_1": "カモメ", "model_2": "Möwe 🐦"}]
    records = [
        each | name for id_ in ids for each, name in zip(both(id_, (9, 8), (8, 7)), names, strict=True)
    ]
    path = write(folder / "Bewertungen – 評価.jsonl", [each | {"judge": "Ünal"} for each in records])
    asked = [{"question_id": id_, "text": f"¿{id_}?", "category": f"Art {id_}"} for id_ in (*ids, "ω")]
    questions = write(folder / "Fragen.jsonl", asked)
    page = folder / "Bericht 📄.html"
    found = lines(run(path, "--questions", questions, "--html", page))
    assert found[0] == "Möwe 🐦 against カモメ: 4 questions, 8 reviews in both orders"
    assert "without a review 1 ω" in found
    assert any(line.startswith("Art große Möwe ") for line in found)
    assert "¿雨?" in page.read_text("utf-8")
    assert "\u202e" not in page.read_text("utf-8")
    [comparison] = json.loads(run(path, "--questions", questions, "--json").stdout)["comparisons"]
    assert [each["id"] for each in comparison["by_question"]] == list(ids)


def test_a_model_against_itself_is_refused(tmp_path: Path) -> None:
    record = review(1, "new", "old", (9, 8)) | {"model_1": "same", "model_2": "same"}
    refused(run(write(tmp_path / "r.jsonl", [record])), "both answers, 'new-1' and 'old-1', are of same")


def test_what_is_not_a_review_is_named(tmp_path: Path) -> None:
    refused(
        run(write(tmp_path / "r.jsonl", [{"prompt": "Why?"}])),
        "r.jsonl:1: is nothing that a report describes; its fields are prompt",
        "reviews or grades (redraft judge), chains",
    )


# What changed.


def kept(folder: Path, records: list[dict[str, Any]], name: str = "v1") -> Path:
    """The JSON of a report on reviews of a version against `old`."""
    (folder / name).mkdir(exist_ok=True)
    named = [
        each
        | {"model_1": each["answer1_id"].split("-")[0].replace("new", name)}
        | {"model_2": each["answer2_id"].split("-")[0].replace("new", name)}
        for each in records
    ]
    path = write(folder / name / "reviews.jsonl", named)
    (folder / f"{name}.json").write_text(run(path, "--json").stdout, "utf-8")
    return path


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_a_new_version_is_held_against_the_last_report(tmp_path: Path, name: str) -> None:
    last = [each for n in range(6) for each in both(n, (8, 8), (8, 8))]
    kept(tmp_path, [*last, *both(99, (9, 9), (1, 1))])
    now = [each for n in range(5) for each in both(n, (9, 9), (8, 8))] + both(5, (7, 7), (8, 8))
    (tmp_path / "now").mkdir()
    path = kept(tmp_path / "now", now, name)
    result = run(path, "--against", tmp_path / "v1.json")
    since = [line.strip() for line in lines(result)]
    place = since.index("v2 since v1" if name == "v2" else "v1 since the last report")
    assert since[place + 1].startswith("ratio of scores +8.33 ")
    assert since[place + 2].startswith("win rate +33.33 ")
    assert since[place + 3 :] == ["better 5 of 6 questions: 0, 1, 2, 3, 4", "worse 1 of 6 questions: 5"]
    [change] = json.loads(run(path, "--against", tmp_path / "v1.json", "--json").stdout)["changes"]
    assert change["ratio"]["value"] == pytest.approx(4 / 48)
    assert (change["better"], change["worse"]) == (["0", "1", "2", "3", "4"], ["5"])


def test_nothing_changed_since_the_same_reviews(tmp_path: Path) -> None:
    path = kept(tmp_path, [each for n in range(6) for each in both(n, (9, 8), (7, 8))])
    found = lines(run(path, "--against", tmp_path / "v1.json"))
    assert found[-4:] == [
        "ratio of scores +0.00 -189.69 to +189.69 points",
        "win rate +0.00 -45.93 to +45.93 points",
        "better 0 of 6 questions",
        "worse 0 of 6 questions",
    ]


def test_a_report_on_something_else_is_refused(tmp_path: Path, reviews: Path) -> None:
    kept(tmp_path, both(1, (9, 9), (8, 8)))
    refused(
        run(reviews, "--against", tmp_path / "v1.json"),
        "v1.json: has no comparison",
        "It has: v1 against old",
    )
    (tmp_path / "other.json").write_text('{"figures": 1}', "utf-8")
    refused(
        run(reviews, "--against", tmp_path / "other.json"),
        "is not a report: comparisons",
        "--json > last.json",
    )
    refused(run(reviews, "--against", tmp_path / "none.json"), "none.json", "No such file")


# The page.


def test_the_page_is_written_whole_and_replaces_nothing_unasked(tmp_path: Path, reviews: Path) -> None:
    page = tmp_path / "report.html"
    assert lines(run(reviews, "--html", page))[0].startswith("A against B")
    html = page.read_text("utf-8")
    assert html.startswith("<!doctype html>")
    assert html.endswith("</html>\n")
    assert "200 resamples of the questions, seed 1" in html
    refused(run(reviews, "--html", page), "report.html exists", "--force")
    assert run(reviews, "--html", page, "--force").exit_code == 0
    refused(run(reviews, "--html", reviews, "--force"), "--html would replace the input")
    refused(run(write(tmp_path / "none.jsonl", []), "--html", tmp_path / "none.html"), "there is no review")
    assert not (tmp_path / "none.html").exists()


@pytest.mark.parametrize("module", ["numpy", "scipy"])
def test_without_the_extra_the_command_says_what_to_install(reviews: Path, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from redraft.cli import main; main()"
    command = [sys.executable, "-c", code, "report", str(reviews)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"statistics (here: {module}) needs the extra 'eval'" in done.stderr
    assert "Traceback" not in done.stderr
