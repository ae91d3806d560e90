from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

pytest.importorskip("scipy")

from tests.cli.verbs import redraft, refused, shown, write
from tests.evaluation.made import answer, both, review

ASKED = (1, 2, "drei")


def run(*args: object) -> Result:
    return redraft("report", *args)


@pytest.fixture(autouse=True)
def _reviews(_folder: None) -> None:
    write(
        "reviews.jsonl", [*both(1, (9, 9), (8, 7)), *both(2, (8, 7), (8, 9)), *both("drei", (9, 9.5), (8, 8))]
    )
    for model, text in (("new", "Ein längerer Satz über Bäume 🌳."), ("old", "短い")):
        write(f"{model}.jsonl", [answer(model, question, text) for question in ASKED])


ANSWERS = ("--answers", "new.jsonl", "--answers", "old.jsonl")


def questions(*ids: object) -> Path:
    return write("q.jsonl", [{"question_id": id_, "text": "Why?", "category": "x"} for id_ in ids])


def test_the_table() -> None:
    found = shown(run("reviews.jsonl", *ANSWERS))
    assert found[0] == "new against old: 3 questions, 6 reviews in both orders; 95 % intervals"
    assert found[1].startswith("ratio of scores 107.29 % ")
    assert found[1].endswith(" 51.5 of 48")
    assert "shown first 108.33 % 26 of 24" in found
    [rate] = [line for line in found if line.startswith("win rate 75.0 %")]
    assert rate.endswith("4 won, 1 tied, 1 lost")
    assert "in both orders 2 won, 1 tied, 0 lost, p = 0.5" in found
    assert not any("unreadable" in line or "not counted" in line for line in found)


def test_json_has_all_figures_and_no_nan() -> None:
    result = run("reviews.jsonl", *ANSWERS, "--json")
    assert result.stdout == run("reviews.jsonl", *ANSWERS, "--json").stdout, "the seed decides the interval"
    assert "NaN" not in result.stdout
    [found] = json.loads(result.stdout)["comparisons"]
    assert (found["ratio"]["value"], found["sums"]) == (pytest.approx(51.5 / 48), [[26, 24], [25.5, 24]])
    assert (found["both"], found["length_bias"]["opponent"]) == ({"wins": 2, "ties": 1, "losses": 0}, 2)
    assert found["length_bias"]["win_rate"] == {"value": None, "low": None, "high": None}


def test_two_judges_and_their_agreement() -> None:
    records = [
        {**each, "review_id": f"{judge}{each['review_id']}"} | ({"judge": judge} if judge else {})
        for judge, ours in {"strict": (7, 7), "kind": (9, 8), "": (6, 6)}.items()
        for n in range(8)
        for each in both(n, ours if n else (9, 9), (8, 8))
    ]
    path = write("r.jsonl", records)
    found = shown(run(path))
    # Of 16 reviews, both judges say that the model wins in both of question 0. Of the others, "strict" says
    # that it loses, and "kind" that it wins when shown first and ties when shown second.
    assert any(line.startswith("judges agree 12.5 %") for line in found)
    assert sum("strict and kind, 16 reviews" in line for line in found) == 1
    [judges] = json.loads(run(path, "--json").stdout)["comparisons"][0]["judges"]
    assert (judges["reviews"], judges["agreement"]["value"]) == (16, 0.125)
    said = [
        {**each, "score": each["score"] if each.get("judge") != "kind" else None, "winner": "1"}
        for each in records
    ]
    assert any(line.endswith("; 32 of 48 reviews have scores") for line in shown(run(write("r.jsonl", said))))


def test_what_does_not_count_is_listed_with_the_reason() -> None:
    unreadable = [*both(2, (9, 9), (8, 8)), *both(3, (9, 9), (8, 8))]
    unreadable[0] |= {"score": [-1, -1], "text": "I prefer the point (10, 4)."}
    unreadable[3] |= {"score": [12, 8]}
    write("r.jsonl", [*both(1, (9, 9), (8, 8)), *unreadable, review(4, "new", "old", (9, 3))])
    found = " ".join(shown(run("r.jsonl", "--questions", questions(1, 2, 3, 4))))
    assert "1 question, 2 reviews in both orders" in found
    assert (
        "unreadable 2 r.jsonl:3 (no scores in the text), r.jsonl:6 (scores outside 1 to 10: 12 and 8)"
        in found
    )
    assert "not counted 3" in found
    assert "r.jsonl:7 (readable only with A shown first)" in found


def test_reviews_in_one_order_only_count_with_a_warning() -> None:
    found = shown(run(write("new_vs_old.jsonl", [review(n, "new", "old", (9, 8)) for n in range(3)])))
    assert found[0] == "new against old: 3 questions, 3 reviews in one order; 95 % intervals"
    assert "order each pair was judged in one order only, which may favour a side" in found


def test_ties_alone_are_a_ratio_of_one() -> None:
    found = shown(run(write("r.jsonl", [each for n in range(9) for each in both(n, (8, 8), (8, 8))])))
    assert "ratio of scores 100.00 % 46.10 to 216.90 144 of 144" in found
    assert "in both orders 0 won, 9 tied, 0 lost, p = 1" in found


def test_a_bad_file_is_named_and_nothing_is_written() -> None:
    Path("bad.jsonl").write_text('{"question_id": 1')
    result = run("bad.jsonl", "reviews.jsonl", "--html", "report.html")
    refused(result, "bad.jsonl:1: this is not JSON", "Correct or delete that record.")
    assert not Path("report.html").exists()


def test_questions_have_categories() -> None:
    found = shown(run("reviews.jsonl", "--questions", questions(*ASKED, 77)))
    assert any(line.startswith("x 107.3 %") and "3 questions" in line for line in found)


def test_empty_answers_have_no_length_and_count_as_they_were_judged() -> None:
    write("new.jsonl", [answer("new", question, "") for question in ASKED])
    found = shown(run("reviews.jsonl", *ANSWERS, "--html", "page.html"))
    assert found[0] == "new against old: 3 questions, 6 reviews in both orders; 95 % intervals"
    assert any(line.endswith("correlation; 0 characters against 2") for line in found)
    assert '"text": ""' in Path("page.html").read_text("utf-8")


PAIR = both(1, (9, 9), (8, 8))
SAME = {"model_1": "same", "model_2": "same"}


@pytest.mark.parametrize(
    ("records", "args", "said"),
    [
        ([], [], ["there is no record in", "r.jsonl"]),
        ([{"prompt": "Why?"}], [], ["r.jsonl:1: no report can read this record; its fields are"]),
        ([review(1, "new", "old", (9, 8)) | SAME], [], ["both answers, 'new-1' and 'old-1', belong to same"]),
        *(
            (
                [{**each, "score": score, "text": "…"} for each in PAIR],
                [],
                ["found 2 reviews, but no readable scores", "A judge should end with its scores: [[8, 9]]."],
            )
            for score in (None, [-1, -1], [math.nan, 8])
        ),
        (
            [{**each, "review_id": ""} for each in PAIR * 2],
            [],
            ["r.jsonl:3: this review is also at r.jsonl:1"],
        ),
        (PAIR, ["none.jsonl"], ["none.jsonl", "No such file"]),
        (PAIR, ["r.jsonl"], ["the review 'new>old:1' is also at r.jsonl:1"]),
        (PAIR, ["--questions", "others.jsonl"], ["belongs to question 1, which is not in others.jsonl"]),
        (PAIR, ["--questions", "twice.jsonl"], ["twice.jsonl has question 2 twice"]),
        (PAIR, ["--answers", "new.jsonl"], ["r.jsonl:1: the answer 'old-1' is not in new"]),
        (PAIR, [*ANSWERS, "--answers", "copy.jsonl"], ["'new-1' is in new and copy; nothing says"]),
        (PAIR, ["--answers", "again.jsonl"], ["again.jsonl has the answer", "twice"]),
        (PAIR, ["--answers", "new.jsonl", "--answers", "of_7.jsonl"], ["of of_7 belongs to question '7'"]),
        (PAIR, ["--html", "r.jsonl", "--force"], ["--html would replace the input"]),
    ],
)
def test_what_is_wrong_is_named(records: list[Any], args: list[str], said: list[str]) -> None:
    write("r.jsonl", records)
    write("others.jsonl", [{"question_id": 2, "text": "Why?"}])
    write("twice.jsonl", [{"question_id": 2, "text": "Why?"}] * 2)
    write("copy.jsonl", [answer("new", 1, "x")])
    write("again.jsonl", [answer("new", 1, "x")] * 2)
    write("of_7.jsonl", [answer("old", 1, "x") | {"question_id": 7}])
    refused(run("r.jsonl", *args), *said)


# The page.


def test_the_page_is_written_whole_and_replaces_nothing_unasked() -> None:
    first, *_, last = shown(run("reviews.jsonl", "--html", "report.html"))
    assert first.startswith("A against B")
    assert last == "page report.html"
    html = Path("report.html").read_text("utf-8")
    assert html.startswith("<!doctype html>")
    assert html.endswith("</html>\n")
    assert "from 20 questions on, by 10,000 resamples" in html
    refused(run("reviews.jsonl", "--html", "report.html"), "report.html exists", "--force")
    assert run("reviews.jsonl", "--html", "report.html", "--force").exit_code == 0
    refused(run(write("none.jsonl", []), "--html", "none.html"), "there is no record")
    assert not Path("none.html").exists()
