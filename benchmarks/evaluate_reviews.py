"""Measure released figures and scores, a report on many reviews, and its page in a browser."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from material import shared
from measure import Figure, Goal, NotMeasured, Row
from redraft.chain.read.records import raw_records
from redraft.evaluation.judging.reviews import Review, Unreadable, read_reviews
from redraft.evaluation.reports.compare import Comparison, Tally
from redraft.evaluation.reports.report import describe
from redraft.evaluation.reports.reviews import Report
from weights_run import MB, run_command

FIGURES = "published SelFee figures reproduced from released reviews"
FIGURES_HOW = (
    "SelFee-13B with 0 and 3 enforced revisions against ChatGPT, both orders: ratio to two decimals, four "
    "sums, six counts of reviews and questions each, against those published and worked out by hand."
)
PUBLISHED: dict[int, tuple[float, Any, Tally, Tally]] = {
    0: (98.19, ((675.0, 674.5), (653.5, 678.5)), Tally(66, 26, 68), Tally(22, 33, 25)),
    3: (102.92, ((689.0, 646.5), (670.0, 674.0)), Tally(87, 26, 47), Tally(32, 31, 17)),
}
SCORES = "scores recovered from review texts, against the released ones"
SCORES_HOW = (
    "All {count} released reviews without their `score` field. Invented: a score that is read from a text "
    "without scores (no first line of two numbers, no `Assistant N: score`, no last tuple), in which quoted "
    "answers stay."
)
MANY = "report on many reviews with 10,000 bootstrap draws"
MANY_HOW = (
    "{count:,} reviews of {questions:,} questions in both orders, texts of 400 to 900 characters with the "
    "scores on the first line, or at the end in a tenth of them, and no `score` field; `redraft report` in a "
    "process of its own, peak memory by the kernel (`VmHWM`)."
)
PAGE_HOW = (
    "{count:,} pairs with answers, questions and both reviews; headless Chromium by Playwright. Open: from "
    "the navigation to the list with its first pair. Search: from a typed word to the filtered list."
)
WORDS = Path(__file__).with_name("questions.txt").read_text("utf-8").split()


def figures(_: int, __: int) -> Row:
    data = shared()
    files = sorted((data / "selfee" / "reviews").glob("*.jsonl"), reverse=True)  # selfee_…_vs_chatgpt first
    report = describe(files)
    assert isinstance(report, Report)
    found = {each.model: each for each in report.comparisons}
    differ = sum(
        _differing(found[f"selfee_13b_enforce_{enforced}_revisions"], *expected)
        for enforced, expected in PUBLISHED.items()
    )
    return Row(FIGURES, FIGURES_HOW, (Figure("figures, of 22", (differ,), "differ", Goal("≤", 0)),))


def _differing(found: Comparison, ratio: float, sums: Any, reviews: Tally, both: Tally) -> int:
    whole = found.whole
    assert whole.ratio
    assert whole.both
    ours = [round(100 * whole.ratio.value, 2), *(n for pair in found.sums for n in pair)]
    ours += [n for tally in (whole.reviews, whole.both) for n in (tally.wins, tally.ties, tally.losses)]
    theirs = [ratio, *(n for pair in sums for n in pair)]
    theirs += [n for tally in (reviews, both) for n in (tally.wins, tally.ties, tally.losses)]
    return sum(one != other for one, other in zip(ours, theirs, strict=True))


def scores(_: int, __: int) -> Row:
    files = sorted((shared() / "selfee" / "reviews").glob("*.jsonl"))
    every = [each for path in files for _, each in read_reviews(raw_records(path))]
    recovered = sum(_read(each.text) == each.score for each in every)
    invented = sum(_read(_without_scores(each.text)) is not None for each in every)
    found = (
        Figure("recovered", (100 * recovered / len(every),), "%", Goal("≥", 100.0)),
        Figure("invented", (invented,), "texts", Goal("≤", 0)),
    )
    return Row(SCORES, SCORES_HOW.format(count=len(every)), found)


def _read(text: str) -> tuple[float, float] | None:
    try:
        return Review(question_id=1, answer1_id=1, answer2_id=2, text=text).scores()
    except Unreadable:
        return None


def _without_scores(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    kept = rest if all(part.replace(".", "").isdigit() for part in first.split()) else text
    lines = [line for line in kept.splitlines() if not line.startswith(("Assistant 1: ", "Assistant 2: "))]
    while lines and (not lines[-1].strip() or lines[-1].rstrip(". ").endswith(")")):
        lines.pop()
    return "\n".join(lines)


def reviews(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(7)
    for number in range(count):
        question, second = divmod(number, 2)
        names = ["new", "old"][:: -1 if second else 1]
        score = [rng.choice((6, 7, 7.5, 8, 8.5, 9, 9, 10)) for _ in names]
        said = " ".join(rng.choices(WORDS, k=rng.randint(70, 160)))
        shown = f"{score[0]:g} {score[1]:g}"
        text = f"{shown}\n{said}" if number % 10 else f"{said}\n\n({shown.replace(' ', ', ')})"
        yield {
            "review_id": f"r{number}", "question_id": question,
            "answer1_id": f"{names[0]}-{question}",
            "answer2_id": f"{names[1]}-{question}",
            "reviewer_id": 1, "metadata": {}, "text": text,
        }  # fmt: skip


def many(count: int, rounds: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as name:
        path = Path(name, "reviews.jsonl")
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(each) + "\n" for each in reviews(count))
        command = [sys.executable, "-m", "redraft", "report", str(path), "--json"]
        took = [run_command(command) for _ in range(rounds)]
    found = (
        Figure(f"{count:,} reviews", tuple(each.seconds for each in took), "s", Goal("≤", 20.0)),
        Figure("peak memory", tuple(each.resident / MB for each in took), "MB", Goal("≤", 1000.0)),
    )
    return Row(MANY, MANY_HOW.format(count=count, questions=count // 2), found)


def browser(count: int, rounds: int) -> Row:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise NotMeasured("Playwright is not installed: pip install playwright") from None
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as name, sync_playwright() as playwright:
        path, hits = _page(Path(name), count), sum(str(n).startswith("17") for n in range(count))
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        measured = [_browsed(opened, path, hits) for _ in range(rounds)]
        size = path.stat().st_size / 1e6
        opened.close()
    opening, searching, requests = zip(*measured, strict=True)
    found = (
        Figure("open", opening, "s", Goal("≤", 1.0)),
        Figure("search", searching, "s", Goal("≤", 1.0)),
        Figure("requests to a host", requests, "calls", Goal("≤", 0)),
        Figure("size of the page", (size,), "MB"),
    )
    return Row("page with many pairs in a browser", PAGE_HOW.format(count=count), found)


def _page(folder: Path, count: int) -> Path:
    rng = random.Random(8)
    made = [{**each, "text": f"{each['text']}\nmarker{n // 2}"} for n, each in enumerate(reviews(2 * count))]
    parts: dict[str, Any] = {"reviews": made}
    for model in ("new", "old"):
        parts[model] = [
            {"answer_id": f"{model}-{n}", "question_id": n, "text": " ".join(rng.choices(WORDS, k=260))}
            for n in range(count)
        ]
    parts["questions"] = [
        {"question_id": n, "text": f"Question {n}?", "category": f"category {n % 8}"} for n in range(count)
    ]
    for name, records in parts.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    options = ("--answers", "new.jsonl", "--answers", "old.jsonl", "--questions", "questions.jsonl")
    command = [sys.executable, "-m", "redraft", "report", "reviews.jsonl", *options, "--html", "page.html"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "page.html"


def _browsed(browser: Any, path: Path, hits: int) -> tuple[float, float, int]:
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("#pair h3")
    opening, start = time.perf_counter() - start, time.perf_counter()
    page.fill("#search", "marker17")
    page.locator("#count", has_text=f"{hits} of").wait_for()  # the policy of the page forbids eval
    searching = time.perf_counter() - start
    page.close()
    return opening, searching, sum(not url.startswith("file:") for url in asked)
