"""The page: whole, self-contained, and safe to open whatever answers and reviews say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")
pytest.importorskip("vl_convert")

from redraft.chain import write_jsonl
from redraft.evaluation.reports.report import page
from tests.browser import chromium
from tests.cli.verbs import write
from tests.evaluation.diagnosis.made_chains import told
from tests.evaluation.made import answer, both, report, review
from tests.evaluation.pages.reading import BAD, Reader, read


def made(folder: Path, text: str = "fine", *, count: int = 2) -> str:
    texts = {"text": f"9 8\n{text}"}
    records = [each | texts for n in range(count) for each in both(n, (9, 8), (8, 8.5))]
    asked = [{"question_id": n, "text": text or "?", "category": text or "x"} for n in range(count)]
    files = []
    for model in ("new", "old"):
        records_of = [answer(model, n, f"{text} {model}") for n in range(count)]
        files.append(write(folder / f"{model}.jsonl", records_of))
    found = report(
        [write(folder / "r.jsonl", records)], answers=files, questions=write(folder / "q.jsonl", asked)
    )
    return page(found, f"made {text}")


def data_of(reader: Reader) -> list[dict[str, Any]]:
    [data] = [text for named, text in reader.scripts if named.get("id") == "pairs"]
    found: list[dict[str, Any]] = json.loads(data)
    return found


def test_all_parts_are_there_for_the_released_reviews(shared_data: Path) -> None:
    selfee = shared_data / "selfee"
    models = [f"selfee_13b_enforce_{enforced}_revisions" for enforced in (0, 3)]
    found = report(
        sorted((selfee / "reviews").glob("*.jsonl")),
        answers=[selfee / "answers" / f"{name}.jsonl" for name in (*models, "chatgpt")],
        questions=shared_data / "questions" / "vicuna_80.jsonl",
    )
    reader = read(page(found, "redraft 1 · seed 1"))
    text = "".join(reader.text)
    parts = [
        "Report on 320 reviews", "94.70 to 101.32", f"{models[0]} against chatgpt80 questions",
        f"{models[0]} is not shown to differ from chatgpt: its win rate is 49.4 % (40.6 to 58.1)", "98.19 %",
        "102.92 %", "shown first",
    ]  # fmt: skip
    parts += ["counterfactual", "length and score", "Differences of ratios", "redraft 1 · seed 1"]
    assert [part for part in parts if part not in text] == []
    pairs = data_of(reader)
    assert len(pairs) == 160
    assert pairs[0]["question"] == "How can I improve my time management skills?"
    assert [each["name"] for each in pairs[0]["answers"]] == [models[0], "chatgpt"]
    assert pairs[0]["row"] == "9–8 · 8.5–9"
    assert [each["title"] for each in pairs[0]["notes"]] == [
        f"{models[0]} 9 : 8 chatgpt",
        f"chatgpt 9 : 8.5 {models[0]}",
    ]
    assert (pairs[0]["kind"], pairs[0]["kinds"]) == ("tied", ["tied", "disagree"])
    assert pairs[0]["about"].endswith("tied: the orders disagree")


@pytest.mark.parametrize("score", [True, False])
def test_there_is_a_page_without_answers_questions_or_scores_too(tmp_path: Path, score: bool) -> None:
    records = [review(1, "new", "old", (9, 8)), review(2, "new", "old", (8, 8))]
    if not score:
        records = [each | {"score": None, "text": "…", "winner": "1"} for each in records]
    reader = read(page(report([write(tmp_path / "r.jsonl", records)]), ""))
    assert [each["answers"] for each in data_of(reader)] == [[], []]
    assert ("ratio of scores" in "".join(reader.text)) == score
    files = [tmp_path / "new.jsonl", tmp_path / "old.jsonl"]
    for file in files:
        metas = ({"source": {"question_id": n, "answer_id": f"{file.stem}-{n}"}} for n in (1, 2))
        write_jsonl(file, [told("a", "1", prompt={"instruction": "Why?"}, meta=meta) for meta in metas])
    reader = read(page(report([tmp_path / "r.jsonl"], answers=files), ""))
    assert {each["question"] for each in data_of(reader)} == {"Why?"}, "the chains' prompts"


def test_a_page_says_of_how_many_pairs_it_shows_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redraft.evaluation.reports.report.MOST_SHOWN", 2)
    reader = read(made(tmp_path, count=3))
    assert len(data_of(reader)) == 2
    assert "The first 2 of 3 are shown." in "".join(reader.text)


@pytest.mark.slow
def test_a_browser_shows_the_pairs_and_runs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(made(tmp_path, f"{BAD} über 🌳"), "utf-8")
    with chromium() as opened:
        browser = opened.new_page()
        browser.goto(f"file://{path}#pair-2")
        browser.wait_for_function("document.querySelector('#pair').innerText.includes('new 9 : 8 old')")
        assert browser.evaluate("document.title").startswith("Report on 4 reviews")
        assert browser.evaluate("document.querySelectorAll('#browse li').length") == 2
        shown = browser.evaluate("document.body.innerText")
        assert f"{BAD} über 🌳" in shown
        assert "2 of 2" in shown
        assert browser.evaluate("document.querySelectorAll('img').length") == 0


def test_a_pair_of_votes_has_the_outcome_of_all_voters(tmp_path: Path) -> None:
    drawn = {"score": None, "text": "", "metadata": {"sides": "drawn"}}
    sides = {1: ("new", "old"), 2: ("old", "new")}
    votes = {1: ((1, "1"), (2, "1")), 2: ((1, "1"), (1, "2"), (1, "2")), 3: ((1, "tie"), (2, "2"))}
    records = [
        review(question, *sides[first], None)
        | drawn
        | dict(zip(("model_1", "model_2"), sides[first], strict=True))
        | {"review_id": f"{question}-{voter}", "judge": f"voter {voter}", "winner": winner}
        for question, given in votes.items()
        for voter, (first, winner) in enumerate(given)
    ]
    found = report([write(tmp_path / "r.jsonl", records)])
    pairs = data_of(read(page(found, "")))
    assert [each["kinds"] for each in pairs] == [["tied"], ["lost"], ["won"]]
    assert pairs[0]["about"].endswith("new tied"), "voters disagree, and not a judge with itself"
    [comparison] = found.comparisons
    assert comparison.outcomes == [0, -1, 1]
