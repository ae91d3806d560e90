"""The ledger: whole lines only, one process at a time, one way of provenance, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Step
from redraft.errors import ContextError, OutputError, RecordError, ServerError
from redraft.jobs import ledger as ledgers
from redraft.jobs.ledger import Ledger, Unfinished
from redraft.jobs.provenance import ContentHashes, Provenance
from tests.cli.verbs import files_up_to

PROVENANCE = Provenance("answer", {"model": "m", "seed": 1, "checks": ("words<=5",)})


def line(name: str, text: str = "é\u2028") -> str:
    return json.dumps({"id": name, "text": text}, ensure_ascii=False)


def fill(path: Path, names: list[str]) -> None:
    with Ledger(path, PROVENANCE) as ledger:
        for name in names:
            if name not in ledger.done:
                ledger.append(name, line(name))


def names_in(ledger: Ledger) -> set[str]:
    names = {name for name in ("a", "b", "c", "ok", "bad") if name in ledger.done}
    assert len(names) == len(ledger.done)
    return names


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "jsonl.bz2", "jsonl.XZ", "csv"])
def test_the_name_of_a_compressed_file_or_a_table_is_refused(tmp_path: Path, ending: str) -> None:
    with (
        pytest.raises(OutputError, match=r"is named like a (compressed file|table), but") as caught,
        Ledger(tmp_path / f"out.{ending}", PROVENANCE),
    ):
        pass
    assert f"-o {tmp_path}/out.jsonl" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_nobody_can_execute_results(tmp_path: Path) -> None:
    with Ledger(tmp_path / "out.jsonl", Provenance("answer")) as ledger:
        ledger.append("1", '{"id": "1"}')
    assert not any(path.stat().st_mode & 0o111 for path in tmp_path.iterdir())


@given(cut=st.integers(0, 200), junk=st.sampled_from([b"", b"\x00\x00", b'{"id": "c"', b"\n", b"[]\n"]))
def test_a_file_cut_at_any_byte_is_gone_on_with(cut: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.jsonl")
        names = ["a", "b", "c"]
        fill(out, names)
        whole = out.read_bytes()
        repaired = whole[:cut] + junk
        kept = sum(text in repaired.splitlines(keepends=True) for text in whole.splitlines(keepends=True))
        out.write_bytes(repaired)
        fill(out, names)
        assert out.read_text().split("\n") == [line(name) for name in names] + [""]
        session = json.loads(Path(folder, "out.jsonl.run.json").read_text())["sessions"][-1]
        assert (session["added"], "host" in session) == (3 - kept, False), "runs are published"


@given(cut=st.integers(0, 200))
def test_an_item_of_several_lines_is_done_with_its_last_one_alone(cut: int) -> None:
    ends = (False, False, True)
    items = {name: [json.dumps({"id": name, "last": last}) for last in ends] for name in "ab"}
    whole = "".join(f"{each}\n" for lines in items.values() for each in lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.jsonl")
        for content in (b"", whole[:cut]):
            out.write_bytes(content)
            found: list[bytes] = []
            with Ledger(
                out, PROVENANCE, is_last=lambda record: record["last"], on_found=found.append
            ) as ledger:
                assert len(ledger.done) == content.count(b"\n") // 3
                assert b"".join(found) == content[: len(content) - ledger.torn]
                for name in [each for each in items if each not in ledger.done]:
                    ledger.append(name, *items[name])
            assert out.read_bytes() == whole


def test_a_bad_line_in_the_middle_is_an_error_and_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    fill(out, ["a"])
    out.write_text(f"oops\n{line('a')}\n")
    with pytest.raises(RecordError, match=r":1: the line is not a JSON object\."):
        fill(out, ["b"])
    out.write_text('{"name": "a"}\n')
    with pytest.raises(RecordError, match=r":1: the field 'id' is missing\."):
        fill(out, ["b"])
    assert out.read_text() == '{"name": "a"}\n'


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("my notes")
    with pytest.raises(OutputError, match=r"its record notes\.txt\.run\.json is missing"):
        fill(out, ["a"])
    assert out.read_text() == "my notes"


def test_the_making_is_beside_the_output(tmp_path: Path) -> None:
    out, source = tmp_path / "out.jsonl", tmp_path / "in.txt"
    source.write_text("one\n")
    for _ in range(2):
        with Ledger(out, Provenance("answer", {"seed": 1}, source)) as ledger:
            ledger.append(str(ledger.found), line(str(ledger.found)))
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    first, second = record["sessions"]
    assert (record["command"], record["config"]) == ("answer", {"seed": 1})
    assert record["source"]["path"] == str(source)
    assert (first["done"], first["added"], second["done"], second["added"]) == (1, 1, 2, 1)
    assert first["pid"] == os.getpid()
    assert first["redraft"]
    assert first["started"] <= first["ended"]


def test_another_way_of_making_is_refused_with_the_differences(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    fill(out, ["a"])
    other = Provenance("answer", {"model": "m", "seed": 2, "checks": ["words<=5"], "mode": "native"})
    with pytest.raises(OutputError) as caught:
        Ledger(out, other)
    assert "mode was not set and is native; seed was 1 and is 2." in caught.value.message
    assert f"delete {out} to start over" in str(caught.value.hint)
    with pytest.raises(OutputError, match="by answer, not by generate"):
        Ledger(out, Provenance("generate", PROVENANCE.config))
    out.unlink()
    with Ledger(out, other) as ledger:
        assert len(ledger.done) == 0


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (None, ["words<=9", "lacks:a b"], 'x was not set and is words<=9, "lacks:a b"'),
        (True, False, "x was on and is off"),
        ([], 1.5, "x was none and is 1.5"),
        ("", "ein Wort", 'x was "" and is "ein Wort"'),
        ({"name": "task", "sha256": "a"}, {"name": "own", "sha256": "b"}, "x was task and is own"),
        ({"name": "own", "sha256": "a"}, {"name": "own", "sha256": "b"}, r"x \(own\) changed"),
        ([{"path": "a.jsonl", "bytes": 1}], [{"path": "b.jsonl"}], "x was a.jsonl and is b.jsonl"),
        ({"top": 1}, {"top": None}, "x was top 1 and is top not set"),
        ("a" * 99, 1, f"x was {'a' * 59}… and is 1"),
    ],
)
def test_differences_are_said_in_plain_words(tmp_path: Path, before: object, now: object, said: str) -> None:
    out = tmp_path / "out.jsonl"
    with Ledger(out, Provenance("answer", {"x": before})) as ledger:
        ledger.append("a", line("a"))
    with pytest.raises(OutputError, match=rf"was made differently: {said}\.$|: {said}\.\n"):
        Ledger(out, Provenance("answer", {"x": now}))


def test_input_may_grow_but_not_change(tmp_path: Path) -> None:
    out, source = tmp_path / "out.jsonl", tmp_path / "in.txt"
    provenance = Provenance("answer", {}, source)
    source.write_text("one\ntwo\n")
    with Ledger(out, provenance) as ledger:
        ledger.append("a", line("a"))
    source.write_text("one\ntwo\nthree\n")
    with Ledger(out, provenance):
        pass
    source.write_text("one\n2\nthree\n")
    with pytest.raises(OutputError, match="has changed"):
        Ledger(out, provenance)
    with pytest.raises(OutputError, match=r"the input was .*in\.txt and is nothing"):
        Ledger(out, Provenance("answer", {}))
    source.rename(tmp_path / "other.txt")
    with pytest.raises(OutputError, match=r"the input was .*in\.txt and is .*other\.txt"):
        Ledger(out, Provenance("answer", {}, tmp_path / "other.txt"))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from redraft.jobs.ledger import Ledger\nfrom redraft.jobs.provenance import Provenance\n"
        "with Ledger(Path(sys.argv[1]), Provenance('answer')):\n"
        "    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(OutputError, match=rf"being written by another redraft process \({holder.pid}\)"):
            Ledger(out, Provenance("answer"))
        holder.communicate("")
    with Ledger(out, Provenance("answer")):
        pass


def test_a_missing_folder_a_folder_and_a_device(tmp_path: Path) -> None:
    for path, hint in (
        (tmp_path / "no" / "out.jsonl", f"mkdir -p {tmp_path}/no"),
        (tmp_path, f"such as {tmp_path}/out.jsonl"),
        (Path("/dev/full"), "-o out.jsonl"),
    ):
        with pytest.raises(OutputError, match=re.escape(str(path))) as caught:
            Ledger(path, PROVENANCE)
        assert hint in str(caught.value.hint)


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with _nobody(), pytest.raises(OutputError, match=r"out\.jsonl: Permission denied"):
        Ledger(folder / "out.jsonl", PROVENANCE)


@contextlib.contextmanager
def _nobody() -> Iterator[None]:
    """Root may write anywhere, so tests that run as root become somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_limit_on_the_file_leaves_whole_lines(tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts a write short in the middle of a line, as a full disk or a quota does."""
    out = tmp_path / "out.jsonl"
    with Ledger(out, PROVENANCE) as ledger:
        ledger.append("a", line("a", "x" * 1000))
        with files_up_to(2000), pytest.raises(OutputError) as caught:
            ledger.append("b", line("b", "x" * 2000))
        assert names_in(ledger) == {"a"}
    assert out.read_text() == line("a", "x" * 1000) + "\n"
    assert "File too large" in caught.value.message
    assert "run the same command again" in str(caught.value.hint)


def test_failures_are_kept_until_they_are_made_good(tmp_path: Path) -> None:
    out, errors = tmp_path / "out.jsonl", tmp_path / "out.jsonl.errors.jsonl"
    failure = ContextError(9000, 2048, trained=32768)
    failure.chain = Chain(id="a", steps=(Step(answer="as far as"),))
    with Ledger(out, PROVENANCE) as ledger:
        ledger.append("ok", line("ok"))
        for name in ("a", "b"):
            ledger.fail(name, failure)
    first, second = (json.loads(text) for text in errors.read_text().splitlines())
    assert (first["id"], second["id"], first["error"]) == ("a", "b", "ContextError")
    assert first["message"] == "the prompt has 9000 tokens and the context holds 2048."
    assert "--ctx" in first["hint"]
    assert first["chain"]["steps"][0]["answer"] == "as far as"
    with Ledger(out, PROVENANCE) as ledger:
        assert names_in(ledger) == {"ok"}
        ledger.append("a", line("a"))
        ledger.fail("b", ServerError("host fails (500): boom", hint="See its log."))
    assert ledger.first_failure == "host fails (500): boom. See its log."
    assert [json.loads(text)["id"] for text in errors.read_text().splitlines()] == ["b"]
    with Ledger(out, PROVENANCE) as ledger:
        ledger.append("b", line("b"))
    assert not errors.exists()


def test_a_torn_failure_does_not_spoil_the_next(tmp_path: Path) -> None:
    out, errors = tmp_path / "out.jsonl", tmp_path / "out.jsonl.errors.jsonl"
    errors.write_bytes(b'{"id": "a", "message": "whole"}\n{"id": "b", "mess')
    with Ledger(out, PROVENANCE) as ledger:
        ledger.fail("c", ContextError(9, 5))
        assert [json.loads(line)["id"] for line in errors.read_bytes().splitlines()] == ["a", "c"]
    assert [json.loads(line)["id"] for line in errors.read_bytes().splitlines()] == ["a", "c"]


def test_failures_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out.jsonl.errors.jsonl").symlink_to("victim")
    with pytest.raises(OutputError, match="it is a link"):
        Ledger(tmp_path / "out.jsonl", PROVENANCE)
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.parametrize("content", [b"notes of mine\n", b'{"a": 1}\n', b'{"id": []}\n', b"[1]\nlast"])
def test_a_file_of_failures_that_is_somebody_elses_is_kept(tmp_path: Path, content: bytes) -> None:
    errors = tmp_path / "out.jsonl.errors.jsonl"
    errors.write_bytes(content)
    with pytest.raises(OutputError, match="line 1 is something else"):
        Ledger(tmp_path / "out.jsonl", PROVENANCE)
    assert errors.read_bytes() == content


def test_how_it_was_made_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out.jsonl.run.json").symlink_to("victim")
    fill(tmp_path / "out.jsonl", ["a"])
    assert (tmp_path / "victim").read_text() == "mine"
    fill(tmp_path / "out.jsonl", ["a", "b"])


def damaged(raw: bytes) -> Iterator[bytes]:
    yield from (raw[:at] for at in range(0, len(raw), 9))
    yield from (b"\0" * 50, b"\xff", b"null", b"[" * 100_000)
    value = json.loads(raw)
    for key, odd in ((key, odd) for key in value for odd in (1, [1], "a", {"path": 1}, {"bytes": "a"})):
        yield json.dumps({**value, key: odd}).encode()


def test_a_damaged_record_of_how_it_was_made_is_told(tmp_path: Path) -> None:
    out, run = tmp_path / "out.jsonl", tmp_path / "out.jsonl.run.json"
    fill(out, ["a"])
    raw = run.read_bytes()
    for each in damaged(raw):
        run.write_bytes(each)
        with contextlib.suppress(OutputError):
            fill(out, ["a"])
        assert out.read_bytes() == f"{line('a')}\n".encode()
    out.unlink()
    for each in damaged(raw):
        run.write_bytes(each)
        fill(out, [])


def test_work_that_was_cut_is_written_again_before_its_file_grows_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "TIDIED_AT", 2000)
    out, done = tmp_path / "out.jsonl", set[str]()
    with Unfinished(out, PROVENANCE, done) as kept:
        for number in range(100):
            kept.keep(str(number), json.dumps("x" * 100))
            done.add(str(number - 1))
            assert kept.path.stat().st_size < 3000
        assert kept.get("99") == "x" * 100
    assert Unfinished(out, PROVENANCE, done).get("99") == "x" * 100
    assert Unfinished(out, Provenance("ask"), done).get("99") is None


def test_a_disk_that_is_full_only_ends_the_keeping(tmp_path: Path) -> None:
    with Unfinished(tmp_path / "gone" / "out.jsonl", PROVENANCE, set()) as kept:
        kept.keep("1", "[]")
        assert kept.get("1") is None


# Hashes of files are kept while the files are there.


def test_files_that_are_gone_are_forgotten_when_another_is_read(tmp_path: Path) -> None:
    kept, gone, new = (tmp_path / name for name in ("kept", "gone", "new"))
    for path in (kept, gone, new):
        path.write_text(path.name)
    cache = tmp_path / "hashes.json"
    for path in (kept, gone):
        ContentHashes(cache).of(path)
    gone.unlink()
    ContentHashes(cache).of(new)
    assert json.loads(cache.read_text()).keys() == {str(kept), str(new)}
