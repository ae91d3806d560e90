from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft import __version__
from redraft.jobs.progress import RecordProgress, size_of
from redraft.train.systems.verbs import split
from tests.cli.data.word_tokenizer import tokenizer_of_words
from tests.cli.verbs import lines, redraft, write

RECORDS = [{"id": name, "instruction": f"Name a river, {name}.", "output": name} for name in "abcd"]
VERBS: dict[str, list[str]] = {
    "import": ["in.jsonl", "--as", "alpaca"],
    "clean": ["in.jsonl"],
    "split": ["in.jsonl", "--tokenizer", "tokens"],
    "dedupe": ["in.jsonl", "--against", "other.jsonl"],
    "decontaminate": ["in.jsonl", "--against", "other.jsonl"],
    "export": ["in.jsonl", "--to", "messages"],
    "merge": ["mix.yaml"],
}


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> Path:
    for name, records in (("in", RECORDS), ("other", [{"instruction": "Why?", "output": "So."}])):
        write(f"{name}.jsonl", records)
    Path("mix.yaml").write_text("parts: [{file: in.jsonl}]")
    return tmp_path


@pytest.fixture
def tokens(data: Path) -> None:
    tokenizer_of_words(data / "tokens")


def run(*args: object) -> Result:
    return redraft("data", *args)


def made(out: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(f"{out}.run.json").read_bytes())
    return record


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("verb", VERBS)
def test_an_output_says_how_it_was_made(verb: str) -> None:
    assert run(verb, *VERBS[verb], "-o", "out.jsonl", "-j", 1).exit_code == 0
    record = made("out.jsonl")
    assert (record["command"], record["sessions"][0]["redraft"]) == (f"data {verb}", __version__)
    assert (record["sessions"][0]["records"], record["dropped"]) == (4, {})
    source = {"import": record.get("inputs"), "merge": [record.get("parts", [{}])[0].get("file")]}
    [read] = source.get(verb) or [record["source"]]
    assert read["sha256"] == hashlib.sha256(Path("in.jsonl").read_bytes()).hexdigest()
    assert Path(read["path"]).name == "in.jsonl"
    if "--against" in VERBS[verb]:
        assert [other["path"] for other in record["against"]] == ["other.jsonl"]


def test_a_folder_is_told_as_one() -> None:
    Path("folder").mkdir()
    for name in "ba":
        Path("folder", f"{name}.jsonl").write_text(f'{{"prompt": "{name}"}}\n')
    assert run("import", "folder", "-o", "out.jsonl", "-j", 1).exit_code == 0
    whole = hashlib.sha256(b'{"prompt": "a"}\n{"prompt": "b"}\n').hexdigest()
    assert made("out.jsonl")["inputs"] == [{"path": "folder", "files": 2, "bytes": 32, "sha256": whole}]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "split"])
def test_two_things_cannot_be_written_to_one_file(verb: str, data: Path) -> None:
    before = sorted(data.iterdir())
    for out, dropped, name in (
        ("x.jsonl", data / "x.jsonl", data / "x.jsonl"),
        ("-", "-", "standard output"),
    ):
        result = run(verb, *VERBS[verb], "-o", out, "--dropped", dropped)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"the dropped records cannot go to {name}" in result.stderr.replace("\n  ", " ")
    assert sorted(data.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["clean", "split", "dedupe", "decontaminate", "export", "stats"])
def test_a_table_has_to_be_imported_first(verb: str) -> None:
    Path("quiz.csv").write_text("question,answer\nWhy?,So.\n")
    args = [arg if arg != "in.jsonl" else "quiz.csv" for arg in VERBS.get(verb, ["in.jsonl"])]
    args = [*args[:-1], "default"] if verb == "split" else args
    result = run(verb, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "quiz.csv is a table. Import it first." in result.stderr
    assert "redraft data import quiz.csv -o quiz.jsonl" in result.stderr


def test_the_line_says_what_was_read_how_fast_and_what_became_of_it() -> None:
    now = [0.0]
    progress = RecordProgress(4_000_000, quiet=True)
    progress._clock, progress._started = lambda: now[0], 0.0
    progress.results = lambda: "1 kept, 1 dropped"
    for _ in range(2):
        progress.advance(1_000_000)
        now[0] += 1
    assert progress.line() == "2 records · 1 a second · 2 of 4 MB (50 %) · 1 kept, 1 dropped"
    progress.compare(64, 1000)
    assert progress.line() == "64 of 1,000 records compared"


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["clean", "in.jsonl", "-o", "out.jsonl"], True),
        (["stats", "in.jsonl"], False),  # into a pipe, which may end in what shows something itself
        (["clean", "in.jsonl", "-o", "out.jsonl", "-q"], False),
        (["clean", "in.jsonl"], False),
    ],
)
def test_the_line_is_shown_on_a_terminal(args: list[str], shown: bool) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "redraft", "data", *args, "-j", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        process.communicate()
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        said = os.read(ours, 1 << 16).decode()
    except (BlockingIOError, OSError):
        said = ""
    os.close(ours)
    assert process.returncode == 0
    assert ("4 records" in said) == shown


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("verb", VERBS)
def test_what_cannot_be_read_is_told_by_its_place_and_strict_stops_there(verb: str) -> None:
    with Path("in.jsonl").open("a") as file:
        file.write('{"broken\n' * 100)
    strict = run(verb, *VERBS[verb], "-o", "out.jsonl", "-j", 1, "--strict")
    assert (strict.exit_code, Path("out.jsonl").exists()) == (2, False)
    assert strict.stderr.startswith("redraft: in.jsonl:5: this is not JSON: Unterminated string")
    result = run(verb, *VERBS[verb], "-o", "out.jsonl", "-j", 1, "--dropped", "side.jsonl")
    assert result.exit_code == 0
    sides = lines("side.jsonl")
    assert (len(sides), sides[0]["where"], sides[0]["record"]) == (100, "in.jsonl:5", '{"broken')
    assert "redraft: in.jsonl:5: this is not JSON: Unterminated string" in result.stderr
    assert result.stderr.count("not JSON") == 5
    assert "redraft: … and 95 more that cannot be read" in result.stderr


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("verb", ["clean", "split", "dedupe", "decontaminate", "export", "merge"])
def test_an_input_without_a_readable_record_is_an_error(verb: str) -> None:
    Path("in.jsonl").write_text('{"a": 1}\n' * 3)
    result = run(verb, *VERBS[verb], "-o", "out.jsonl", "-j", 1)
    assert (result.exit_code, Path("out.jsonl").exists()) == (2, False)
    assert "redraft: no record could be read." in result.stderr


def test_beside_what_is_no_file_nothing_is_written(data: Path) -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        assert run("clean", "in.jsonl", "-o", "pipe", "-j", 1).exit_code == 0
        assert reader.communicate()[0].count(b"\n") == 4
    assert not Path("pipe.run.json").exists()


@pytest.mark.parametrize(
    ("args", "flag"),
    [
        (["clean", "in.jsonl", "-o", "x", "--dropped", "in.jsonl"], "--dropped"),
        (["clean", "in.jsonl", "-o", "in.jsonl", "--dropped", "in.jsonl.run.json"], "--dropped"),
        (["decontaminate", "in.jsonl", "--against", "o.run.json", "-o", "o"], "--out"),
        (["decontaminate", "in.jsonl", "--against", "other.jsonl", "-o", "other.jsonl"], "--out"),
        (["dedupe", "in.jsonl", "--against", "other.jsonl", "-o", "./other.jsonl"], "--out"),
        (["merge", "mix.yaml", "-o", "mix.yaml"], "--out"),
        (["merge", "mix.yaml", "-o", "in.jsonl"], "--out"),
        (["import", "in.jsonl", "other.jsonl", "-o", "other.jsonl"], "--out"),
    ],
)
def test_what_is_read_is_not_replaced(args: list[str], flag: str, data: Path) -> None:
    Path("o.run.json").write_text('"Why?"')
    before = {path: path.read_bytes() for path in data.iterdir()}
    result = run(*args, "--force", "-j", 1)
    assert (result.exit_code, f"another file: {flag} FILE" in result.stderr) == (2, True)
    assert {path: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize(
    "args",
    [["clean", "in.jsonl"], ["dedupe", "in.jsonl", "--against", "other.jsonl"], ["import", "in.jsonl"]],
)
def test_a_file_may_be_replaced_by_what_it_becomes(args: list[str]) -> None:
    before = Path("in.jsonl").read_bytes()
    assert run(*args, "-o", "in.jsonl", "--force", "-j", 1).exit_code == 0
    assert Path("in.jsonl").read_bytes().count(b"\n") == 4
    source = made("in.jsonl")["source"] or made("in.jsonl")["inputs"][0]
    assert (source["bytes"], source["sha256"]) == (len(before), hashlib.sha256(before).hexdigest())


@pytest.mark.slow
@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("clean", ["--blocked", "fastchat"]),
        ("dedupe", ["--by", "minhash"]), ("export", []), ("split", ["--limit", "20"]), ("decontaminate", []),
    ],
)  # fmt: skip
def test_any_number_of_workers_writes_the_same(verb: str, more: list[str]) -> None:
    said = [f"Tell me of the number {i % 60} and why it is what it is today." for i in range(200)]
    records = [
        {"instruction": text, "output": "I am ChatGPT." if i % 3 else "I am."} for i, text in enumerate(said)
    ]
    write("in.jsonl", records)
    if verb == "decontaminate":
        Path("other.jsonl").write_text(json.dumps({"prompt": said[7]}))
    for workers in (1, 3):
        places = ("-o", f"out{workers}", "--dropped", f"side{workers}")
        assert run(verb, *VERBS[verb], *more, *places, "-j", workers).exit_code == 0
    for name in ("out", "side"):
        assert Path(f"{name}1").read_bytes() == Path(f"{name}3").read_bytes()
    assert Path("out1").read_bytes()


def test_standard_input_is_imported_once() -> None:
    result = redraft("data", "import", "-", "-", stdin='{"prompt": "a"}\n')
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'-' is given twice" in result.stderr


@pytest.mark.usefixtures("tokens")
def test_all_that_decides_the_result_is_told() -> None:
    assert run("clean", "in.jsonl", "--blocked", "fastchat", "-o", "a").exit_code == 0
    assert made("a")["config"]["blocked"] == ["fastchat"]
    assert run("split", *VERBS["split"], "-o", "b").exit_code == 0
    split("in.jsonl", "c", tokenizer="tokens")
    own = Path("tokens/tokenizer.json").read_bytes()
    assert {made(name)["tokenizer"]["sha256"] for name in "bc"} == {hashlib.sha256(own).hexdigest()}


def test_a_share_is_told_only_of_files_that_are_read_as_long_as_they_are() -> None:
    assert size_of([Path("in.jsonl"), Path("other.jsonl")]) == sum(
        Path(f"{name}.jsonl").stat().st_size for name in ("in", "other")
    )
    for path in ("-", "in.jsonl.gz", "in.parquet", "none.jsonl"):
        assert size_of([Path("in.jsonl"), Path(path)]) is None
