"""Describe files in one pass: the known figures of SelFee's released chains, faults, and samples."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from redraft.chain import Chain, Prompt, Step, write_jsonl
from redraft.collect.report.findings import findings
from redraft.collect.report.stats import DataReport, Draw, describe
from redraft.errors import EmptyReply, RecordError
from redraft.jobs.ledger import Ledger
from redraft.jobs.provenance import Provenance
from redraft.verify.segment import count_words


@cache
def selfee(shared_data: Path, name: str) -> DataReport:
    return describe([shared_data / "selfee" / "chains" / f"{name}.jsonl"], count_words)


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


# What the reference says of the released files, counted there by hand-written rules.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answers", "leaks", "silent", "scores"),
    [
        ("conala", {1: 942, 2: 1672, 3: 118, 4: 16, 5: 29}, (162, 155, 125), (437, 4849), (1050, 140)),
        ("mbpp", {1: 538, 2: 408, 3: 17, 4: 2, 5: 4}, (0, 0, 0), (100, 1433), (474, 142)),
    ],
)
def test_what_is_known_of_the_released_chains_is_found(
    shared_data: Path,
    name: str,
    answers: dict[int, int],
    leaks: tuple[int, int, int],
    silent: tuple[int, int],
    scores: tuple[int, int],
) -> None:
    report = selfee(shared_data, name)
    totals = report.summary.totals
    assert report.summary.tables["answers a record"] == answers
    assert (totals["leaking feedbacks"], totals["leak"], totals["new leaks"]) == leaks
    assert (totals["no verdict"], totals["written feedbacks"]) == silent
    assert (totals["last scores"], totals["low score"]) == scores
    assert totals["records"] == sum(answers.values())


def test_what_is_known_is_said_in_words(shared_data: Path) -> None:
    said = {each.name: each.text for each in findings(selfee(shared_data, "conala"))}
    assert said["leak"].startswith("155 records with 162 feedbacks quoting the gold answer, 125 of them ")
    assert said["no verdict"].startswith("437 feedbacks without a verdict, of 4,849")
    assert said["low score"].startswith("140 last feedbacks naming a score below 9, of 1,050 ")
    assert "leak" not in {each.name for each in findings(selfee(shared_data, "mbpp"))}


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_report(shared_data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"prompt": "a"}\nno\n' * 500, mtime=0)[:-10])
    lines = (shared_data / "selfee" / "chains" / "mbpp.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "mbpp.jsonl").write_bytes(b"".join(lines[:150]))
    paths = [broken, tmp_path / "mbpp.jsonl"]
    one, two = (describe(paths, count_words, workers=workers) for workers in (1, 2))
    assert one == two
    assert one.summary.totals["unreadable"] > 2


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{no\n{"x": 1}\n"\xff"\n{"prompt": "b"}\n')
    report = describe([path], count_words)
    assert report.summary.totals["records"] == 2
    assert report.summary.totals["unreadable"] == 3
    assert [place.split(" ")[0] for place in report.summary.examples["unreadable"]] == [
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
    assert 1 < report.summary.totals["records"] < 2_001
    assert report.summary.tables["sources"]["b"] == 1
    assert "cannot be read" in report.summary.examples["unreadable"][-1]
    with pytest.raises(RecordError, match="cannot be read"):
        describe([path], count_words, strict=True)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        describe([tmp_path / "none.jsonl"], count_words)


def test_an_array_and_lines_are_described_alike(tmp_path: Path) -> None:
    records = [{"instruction": f"Say {number}.", "output": "yes"} for number in range(300)]
    lines = describe([write(tmp_path / "a.jsonl", *records)], count_words, samples=0)
    array = tmp_path / "a.json"
    array.write_text(json.dumps(records))
    assert describe([array], count_words, samples=0).summary == lines.summary


def drawn(path: Path, **settings: int) -> list[str]:
    return [each.chain.prompt.text for each in describe([path], count_words, **settings).samples]  # type: ignore[arg-type]


def test_samples_are_those_of_the_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    records = [{"prompt": f"{number:03}"} for number in range(200)]
    path = write(tmp_path / "a.jsonl", *records)
    first = drawn(path, samples=10, seed=1)
    assert len(set(first)) == 10
    assert first == sorted(first)
    assert first == drawn(write(tmp_path / "b.jsonl", *records), samples=10, seed=1)
    assert first != drawn(path, samples=10, seed=2)
    assert drawn(path, samples=0) == []
    assert len(drawn(path, samples=500)) == 200


def test_each_record_has_the_same_chance(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"prompt": f"{number}"} for number in range(20)))
    counts = dict.fromkeys(map(str, range(20)), 0)
    for seed in range(100):
        for name in drawn(path, samples=5, seed=seed):
            counts[name] += 1
    # Binomial with n = 100 and p = 1/4: mean 25, deviation 4.3; four of them either way.
    assert all(7 < count < 43 for count in counts.values())


def test_a_huge_record_and_one_that_cannot_be_read_are_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "x" * (Draw.LARGEST + 1)}) + '\n{no\n{"prompt": "good"}\n')
    assert drawn(path, samples=8) == ["good"]


def test_an_example_of_each_kind_is_the_first(tmp_path: Path) -> None:
    bad, good = "Bad. Revision is needed.", "Good. Revision is not needed."
    outputs = {
        "corrected": [("a", bad), ("b", good)],
        "not accepted": [("a", bad)],
        "silent": [("a", "Hm."), ("b", good)],
        "leaking": [("a", f"Say the golden answer. {bad}"), ("b", good)],
        "at once": [("a", good)],
        "again": [("a", good)],
    }
    path = tmp_path / "a.jsonl"
    records = [
        {
            "instruction": name,
            "output": "the golden answer",
            "outputs": [{"output": answer, "feedback": text} for answer, text in steps],
        }
        for name, steps in outputs.items()
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    for workers in (1, 2):
        found = describe([path], len, workers=workers).examples
        assert {kind: sample.chain.prompt.text for kind, sample in found.items()} == {
            "accepted at once": "at once",
            "corrected": "corrected",
            "leaking": "leaking",
            "without a verdict": "silent",
        }
    assert list(found) == ["accepted at once", "corrected", "leaking", "without a verdict"]
    assert found["leaking"].where == f"{path}:4"
    assert describe([path], len, samples=0).examples == {}


CHAIN = Chain(id="a/1", prompt=Prompt(instruction="Hi"), steps=(Step(answer="Ho"),), best=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of four records: one is done, two failed, one of them twice, and one was dropped."""
    path = tmp_path / "out.jsonl"
    with Ledger(path, Provenance("generate chains")) as ledger:
        ledger.append("a/1", CHAIN.to_json())
        ledger.fail("a/2", EmptyReply("a/2: no text."))
        ledger.fail("a/2", RecordError("a/2 has no gold answer."))
        ledger.fail("a/3", RecordError("a/3 has no gold answer."))
    write_jsonl(tmp_path / "out.jsonl.leaks.jsonl", [CHAIN.model_copy(update={"id": "a/4"})])
    return path


def described(*paths: Path) -> DataReport:
    return describe(paths, len)


def test_failures_are_counted_by_cause_and_dropped_chains_beside_them(out: Path) -> None:
    report = described(out)
    assert report.totals()["records"] == 1
    assert report.kinds()["failures"] == [("bad prompt", 2)]
    said = {each.name: each for each in findings(report)}
    assert said["failed"].text == "2 records failed when the chains were made: bad prompt (2)."
    assert said["failed"].examples[0] == "bad prompt: a/2 has no gold answer."
    assert said["dropped"].text == "1 chain dropped because of a quote of the gold answer."
    assert report.examples["leaking"].chain.id == "a/4"


def test_without_such_files_nothing_is_said(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [CHAIN])
    report = described(tmp_path / "a.jsonl")
    assert "failures" not in report.kinds()
    assert not {"failed", "dropped"} & {each.name for each in findings(report)}


def test_lines_of_other_programs_are_passed_over(out: Path) -> None:
    lines = ['{"id": 1, "error": "x"}', "[]", "{torn", '{"id": "b", "error": null}']
    out.with_name("out.jsonl.errors.jsonl").write_text("\n".join(lines))
    out.with_name("out.jsonl.leaks.jsonl").write_text(json.dumps({"steps": 3}) + "\n[]\n")
    report = described(out)
    assert "failures" not in report.kinds()
    assert "leaking" not in report.examples
