"""Describe files in one pass: the known figures of SelFee's released chains, faults, samples, the page."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Prompt, Step
from redraft.checks.segment import count_words
from redraft.data.report import LARGEST, DataFinding, DataReport, as_json, bins, describe, page, quantile
from redraft.errors import EmptyReply, RecordError
from redraft.jobs.ledger import Ledger
from redraft.jobs.provenance import Provenance
from tests.evaluation.pages.reading import BAD, read


@cache
def selfee(shared_data: Path, name: str) -> DataReport:
    return describe([shared_data / "selfee" / "chains" / f"{name}.jsonl"], count_words)


def said_of(report: DataReport) -> dict[str, DataFinding]:
    return {each.name: each for each in report.findings}


def rows(report: DataReport, title: str) -> list[tuple[object, ...]]:
    return next((table.rows for table in report.tables if table.title == title), [])


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


# What the reference says of the released files, counted there by hand-written rules.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answers", "leak", "silent", "low"),
    [
        (
            "conala",
            {1: 942, 2: 1672, 3: 118, 4: 16, 5: 29},
            "155 records with 162 feedbacks quoting the gold answer, 125 of them ",
            "437 feedbacks without a verdict, of 4,849",
            "140 last feedbacks naming a score below 9, of 1,050 ",
        ),
        (
            "mbpp",
            {1: 538, 2: 408, 3: 17, 4: 2, 5: 4},
            "",
            "100 feedbacks without a verdict, of 1,433",
            "142 last feedbacks naming a score below 9, of 474 ",
        ),
    ],
)
def test_what_is_known_of_the_released_chains_is_found(
    shared_data: Path, name: str, answers: dict[int, int], leak: str, silent: str, low: str
) -> None:
    report = selfee(shared_data, name)
    assert {int(str(row[0])): row[1] for row in rows(report, "answers a record")} == answers
    assert report.totals["records"] == sum(answers.values())
    said = said_of(report)
    assert ("leak" in said) == bool(leak)
    assert said.get("leak", said["no verdict"]).text.startswith(leak)
    assert said["no verdict"].text.startswith(silent)
    assert said["low score"].text.startswith(low)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_report(shared_data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"prompt": "a"}\nno\n' * 500, mtime=0)[:-10])
    lines = (shared_data / "selfee" / "chains" / "mbpp.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "mbpp.jsonl").write_bytes(b"".join(lines[:150]))
    paths = [broken, tmp_path / "mbpp.jsonl"]
    one, two = (describe(paths, count_words, workers=workers) for workers in (1, 2))
    assert one == two
    assert said_of(one)["unreadable"].count > 2


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{no\n{"x": 1}\n"\xff"\n{"prompt": "b"}\n')
    report = describe([path], count_words)
    unreadable = said_of(report)["unreadable"]
    assert (report.totals["records"], unreadable.count) == (2, 3)
    assert [place.split(" ")[0] for place in unreadable.examples] == [
        f"{path}:2:",
        f"{path}:3:",
        f"{path}:4:",
    ]
    with pytest.raises(RecordError, match=r"a\.jsonl:2: not JSON"):
        describe([path], count_words, strict=True)


def test_a_file_that_ends_too_early_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    lines = "".join(f'{{"prompt": "question {number * 7919}"}}\n' for number in range(2_000)).encode()
    path.write_bytes(gzip.compress(lines, mtime=0)[:-500])
    whole = write(tmp_path / "b.jsonl", {"prompt": "c"})
    report = describe([path, whole], count_words)
    assert 1 < report.totals["records"] < 2_001
    assert [row[:2] for row in rows(report, "sources")][1] == ("b", 1)
    assert "cannot be read" in said_of(report)["unreadable"].examples[-1]
    with pytest.raises(RecordError, match="cannot be read"):
        describe([path], count_words, strict=True)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        describe([tmp_path / "none.jsonl"], count_words)


def drawn(path: Path, samples: int) -> list[str]:
    return [chain.prompt.text for _, chain in describe([path], count_words, samples=samples).samples]


def test_samples_are_in_the_order_of_the_file_and_no_huge_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"prompt": f"{number:03}"} for number in range(200)))
    first = drawn(path, 10)
    assert len(set(first)) == 10
    assert first == sorted(first) == drawn(path, 10)
    assert max(first) > "100"
    assert drawn(path, 0) == []
    assert len(drawn(path, 500)) == 200
    path.write_text(json.dumps({"prompt": "x" * (LARGEST + 1)}) + '\n{no\n{"prompt": "good"}\n')
    assert drawn(path, 8) == ["good"]


CHAIN = Chain(id="a/1", prompt=Prompt(instruction="Hi"), steps=(Step(answer="Ho"),), best=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of three records: one is done, two failed, one of them twice."""
    path = tmp_path / "out.jsonl"
    with Ledger(path, Provenance("generate chains")) as ledger:
        ledger.append("a/1", CHAIN.to_json())
        ledger.fail("a/2", EmptyReply("a/2: no text."))
        ledger.fail("a/2", RecordError("a/2 has no gold answer."))
        ledger.fail("a/3", RecordError("a/3 has no gold answer."))
    return path


def test_failures_are_counted_by_cause_and_lines_of_other_programs_passed_over(out: Path) -> None:
    report = describe([out], len)
    assert report.totals["records"] == 1
    assert rows(report, "failures") == [("bad prompt", 2, 1.0)]
    failed = said_of(report)["failed"]
    assert failed.text == "2 records failed when the chains were made: bad prompt (2)."
    assert failed.examples[0] == "bad prompt: a/2 has no gold answer."
    lines = ['{"id": 1, "error": "x"}', "[]", "{torn", '{"id": "b", "error": null}']
    out.with_name("out.jsonl.errors.jsonl").write_text("\n".join(lines))
    assert rows(describe([out], len), "failures") == []


NUMBERS = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 10**7)), min_size=1, max_size=60)


@given(NUMBERS)
def test_every_number_is_in_one_bin_and_bins_leave_no_gap(numbers: list[int]) -> None:
    found = bins(Counter(numbers))
    assert all(before.high + 1 == after.low for before, after in pairwise(found))
    for each in found:
        assert each.count == sum(each.low <= number <= each.high for number in numbers)
    assert sum(each.count for each in found) == len(numbers)
    assert found[0].count
    assert found[-1].count


@given(NUMBERS)
def test_a_quantile_is_one_of_the_numbers(numbers: list[int]) -> None:
    found = quantile(Counter(numbers), 0.95)
    assert sum(number <= found for number in numbers) >= 0.95 * len(numbers)
    assert sum(number < found for number in numbers) < 0.95 * len(numbers)


def found(tmp_path: Path, *records: object, long: int = 2048) -> dict[str, DataFinding]:
    path = write(tmp_path / "a.jsonl", *records)
    return said_of(describe([path], lambda text: len(text.split()), long=long))


ENGLISH = "Please describe how rain comes to fall from the clouds, number"
GERMAN = "Bitte beschreibe mir, wie der Regen aus den Wolken fällt, Nummer"


def test_good_records_with_a_licence_raise_nothing(tmp_path: Path) -> None:
    chain = {
        "version": 1,
        "prompt": {"instruction": ENGLISH},
        "steps": [
            {"answer": "It is heavy.", "feedback": {"text": "No revision is needed.", "verdict": "accept"}}
        ],
        "best": 0,
        "meta": {"origin": {"dataset": "own", "licence": "MIT"}},
    }
    assert found(tmp_path, chain) == {}


def test_nothing_at_all_is_said_to_be_nothing(tmp_path: Path) -> None:
    assert list(found(tmp_path)) == ["empty"]


def test_faults_come_first(tmp_path: Path) -> None:
    said = found(
        tmp_path,
        {"x": 1},
        {"conversations": [{"from": "gpt", "value": "Hi."}, {"from": "human", "value": "Hi."}]},
        {"messages": [{"role": "user", "content": "a b c d e"}, {"role": "assistant", "content": ""}]},
        long=4,
    )
    assert list(said) == ["unreadable", "roles", "empty answer", "long", "licence"]
    assert [each.level for each in said.values()] == ["fault", "fault", "fault", "warning", "note"]
    assert said["roles"].text.endswith("assistant speaks first (1).")
    assert said["roles"].examples == (f"{tmp_path / 'a.jsonl'}:2",)
    assert said["unreadable"].text == "1 record that cannot be read."


def test_repeats_are_counted_beyond_the_first(tmp_path: Path) -> None:
    said = found(tmp_path, *[{"prompt": "Why?"}] * 3, {"prompt": " WHY? "}, {"prompt": "How?"})
    assert said["repeated"].count == 3
    assert said["repeated"].text.startswith("3 records with the first question of an earlier one, 3 with all")


@pytest.mark.parametrize(("others", "warns"), [(0, False), (1, False), (2, True)])
def test_a_mixture_of_languages_is_noted_from_one_in_a_hundred(
    tmp_path: Path, others: int, warns: bool
) -> None:
    records = [{"prompt": f"{ENGLISH} {number}"} for number in range(150)]
    said = found(tmp_path, *records, *({"prompt": f"{GERMAN} {number}"} for number in range(others)))
    assert ("languages" in said) == warns
    if warns:
        assert said["languages"].text.endswith("not in en, of 152 whose language is clear: de (2).")


def test_records_not_for_commercial_use_are_a_warning(tmp_path: Path) -> None:
    chain = {
        "version": 1,
        "prompt": {"instruction": "q"},
        "steps": [],
        "meta": {"origin": {"licence": "CC BY-NC 4.0"}},
    }
    assert found(tmp_path, chain)["noncommercial"].text == "1 record not for commercial use, of 1."


def test_records_without_any_answer_are_told(tmp_path: Path) -> None:
    said = found(tmp_path, {"prompt": "Why?"}, {"question": "How?", "answer": "So."}, {"prompt": "Who?"})
    assert said["no answer"].count == 2
    assert "2 records" in said["no answer"].text
    assert said["no answer"].examples == (f"{tmp_path / 'a.jsonl'}:1", f"{tmp_path / 'a.jsonl'}:3")


def test_tags_of_html_in_answers_are_told(tmp_path: Path) -> None:
    answers = ["<p>So.</p>", "So: `<p>x</p>`", "So."]
    talks = [{"instruction": "Why?", "output": answer} for answer in answers]
    assert found(tmp_path, *talks)["html"].count == 1


def page_of(path: Path, *records: object) -> str:
    return page(describe([write(path, *records)], len), "made so")


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    text = BAD
    record = {
        "instruction": text,
        "output": text,
        "dataset": text,
        "outputs": [{"output": text, "feedback": text}, {"output": "b", "feedback": text}],
    }
    talk = {"messages": [{"role": text, "content": text}, {"role": "assistant", "content": text}]}
    reader = read(page_of(tmp_path / "<b onclick=x>.jsonl", record, talk, {text: 1}))
    assert BAD in "".join(reader.text)
    assert "<b onclick=x>.jsonl" in "".join(reader.text)
    assert reader.scripts == []


def test_all_parts_are_there_for_chains(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "selfee" / "chains" / "conala.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "conala.jsonl").write_bytes(b"".join(lines[:500]))
    report = describe([tmp_path / "conala.jsonl"], len, unit="characters")
    text = "".join(read(page(report, "redraft 1")).text)
    parts = (
        "conala.jsonl|gold answers| quoting the gold answer|characters a record|Answers a record|"
        "characters, feedback|revise|Languages|Samples|feedback 1 · |redraft 1"
    )
    for part in parts.split("|"):
        assert part in text
    said = json.loads(json.dumps(as_json(report)))
    assert said["totals"]["records"] == 500
    assert said["tables"]["answers a record"][0].keys() == {"name", "count", "share"}
    assert sum(each["count"] for each in said["lengths"]) == 500


@pytest.mark.parametrize("records", [0, 1])
def test_of_little_or_nothing_there_is_a_page_too(tmp_path: Path, records: int) -> None:
    html = page_of(tmp_path / "a.jsonl", *[{"prompt": "Why?"}] * records)
    assert ("Lengths" in html) == bool(records)
    assert ("No records." in html) != bool(records)
    read(html)


def test_long_texts_and_long_chains_are_cut_with_a_word_on_it(tmp_path: Path) -> None:
    steps = [{"output": "y" * 5000, "feedback": "again"}] * 40
    html = page_of(tmp_path / "a.jsonl", {"instruction": "x" * 5000, "outputs": steps})
    assert "… 3,500 more characters" in html
    assert "… 30 more answers" in html
    assert "x" * 1501 not in html
