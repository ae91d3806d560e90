from __future__ import annotations

import fcntl
import gzip
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redraft.chain import Chain, Feedback, Prompt, Step, write_jsonl
from redraft.chain.encoder import NO_ROOM, SHORTEST, Cut, Encoder, Skipped
from redraft.errors import OutputError, RecordError, UsageError
from redraft.jobs import parallel
from redraft.train import prepare as module
from redraft.train.prepare import DataReport, Prepared, RecordTally, key_of, prepare
from tests.train.letters import END, Letters
from tests.train.tokenizer_kinds import tokenizer

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*pairs: tuple[str, str], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        lines = [json.dumps({"instruction": asked, "outputs": [{"output": said}]}) for asked, said in pairs]
        path.write_text("\n".join([*lines, ""]), "utf-8")
        return path

    return written


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def texts(prepared: Prepared) -> list[tuple[str, str, str]]:
    found = []
    for number in range(len(prepared)):
        ids, trained = prepared[number]
        letters = ["." if each == END else chr(each) for each in ids.tolist()]
        begin = int(np.argmax(trained))
        assert trained[begin:].all()
        found.append((prepared.name(number), "".join(letters[:begin]), "".join(letters[begin:])))
    return found


def test_records_become_examples_in_their_order(write: Write, cache: Path) -> None:
    one, other = write(("Add 1.", "2"), ("Ünï?", "→")), write(("Go", "on"), name="more.jsonl")
    prepared = prepare([one, other], Letters(), cache)
    assert texts(prepared) == [("data/0", "Add 1.", "2."), ("data/1", "Ünï?", "→."), ("more/0", "Go", "on.")]
    assert prepared.lengths.tolist() == [8, 6, 5]


def test_any_shape_of_file_is_read(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "talks.json.gz"
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    path.write_bytes(gzip.compress(json.dumps([{"id": "t1", "conversations": talk}]).encode(), mtime=0))
    assert texts(prepare([path], Letters(), cache)) == [("talks/t1", "Hi", "Hello.")]


def test_the_report_counts_what_became_of_the_records(write: Write, cache: Path) -> None:
    path = write(("a", "b"), ("none", ""), ("c" * 30, "dd"), ("", "e"), ("none", ""))
    report = prepare([path], Letters(longest=20), cache).report
    assert report == DataReport(
        records=5,
        examples=3,
        tokens=3 + 20 + 2,
        trained=2 + 3 + 1,  # the first token of the fourth is predicted by nothing
        longest=20,
        cut=RecordTally(1, ["data/2"]),
        cut_tokens=13,
        cut_prompt=13,
        skipped={"no answer": RecordTally(2, ["data/1", "data/4"])},
        origins={"data": {"unknown": 3}},
    )
    assert report.lines() == [
        "5 records read, 3 to train on: 25 tokens, 6 of them with loss (24%); the longest example has 20",
        "1 cut, by 13 tokens in all (13 from prompts): data/2",
        "2 skipped, no answer: data/1, data/4",
    ]


@dataclass(frozen=True)
class Breaking(Letters):
    def encode(self, chain: Chain) -> Any:
        made, asked = super().encode(chain), chain.prompt.instruction
        cut = Cut(7, lost=2 * (asked == "lose"), broken=int(asked == "break"))
        return replace(made, cut=cut, leaves=asked == "end")


def test_the_report_says_which_answers_were_cut(write: Write, cache: Path) -> None:
    path = write(("lose", "a"), ("break", "a"), ("end", "a"))
    prepared = prepare([path], Breaking(), cache)
    assert prepared.report.lines()[1:] == [
        "3 cut, by 21 tokens in all: data/0, data/1, data/2",
        "1 of these without their last answers: data/0",
        "1 of these cut within an answer: data/1",
        f"1 with earlier answers, {module._NO_LOSS}: data/2",
    ]
    assert prepare([path], Breaking(), cache).report == prepared.report


def test_the_report_says_which_records_have_only_feedback(tmp_path: Path, cache: Path) -> None:
    steps = [Step(answer="b", feedback=Feedback(text="No.", verdict=said)) for said in ("revise", "accept")]
    asked = Prompt(instruction="a")
    write_jsonl(
        tmp_path / "a.jsonl", [Chain(id="a/0", prompt=asked, steps=(step,), best=0) for step in steps]
    )
    report = prepare([tmp_path / "a.jsonl"], Encoder(tokenizer("bytes")), cache).report
    only = "1 with loss on feedback alone, because every answer was rejected or cut: a/0"
    assert report.lines()[1:] == [only]
    inside = prepare([tmp_path / "a.jsonl"], Encoder(tokenizer("bytes"), "vicuna"), cache).report
    assert inside.lines()[1:] == [only, f"2 {module._NESTED}: a/0, a/0"]


def test_the_report_says_that_every_first_answer_is_revised(tmp_path: Path, cache: Path) -> None:
    first = Step(answer="b", feedback=Feedback(text="No.", verdict="revise"))
    last = Step(answer="c", feedback=Feedback(text="Yes.", verdict="accept"))
    revised, accepted = (
        Chain(id="a/0", prompt=Prompt(instruction="a"), steps=steps, best=-1 % len(steps))
        for steps in ((first, last), (last,))
    )
    for chains, told in ((revised, revised), 1), ((revised, accepted), 0):
        write_jsonl(tmp_path / f"{told}.jsonl", chains)
        lines = prepare([tmp_path / f"{told}.jsonl"], Encoder(tokenizer("bytes")), cache).report.lines()
        assert sum(line.startswith("2 whose first answer is revised; none is") for line in lines) == told


def test_reasons_and_ids_in_a_report_are_bounded() -> None:
    report = DataReport()
    for number in range(1000):
        report.add(f"id{number}", ("data", "unknown"), Skipped(f"reason {number % 500}"))
    assert len(report.skipped) <= 21
    assert sum(some.count for some in report.skipped.values()) == 1000
    assert all(len(some.first) <= 5 for some in report.skipped.values())


@pytest.mark.slow
def test_processes_make_the_bytes_that_one_makes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(*[(f"question {n}", "answer" * (n % 7)) for n in range(500)])
    one = prepare([path], Letters(), tmp_path / "one")
    monkeypatch.setattr(module, "BATCH", 20)
    monkeypatch.setattr(module, "WORTH_A_PROCESS", 1000)
    monkeypatch.setattr(parallel, "BATCH", 2)
    monkeypatch.setattr(module, "SECONDS", 0)
    said: list[str] = []
    many = prepare([path], Letters(), tmp_path / "many", workers=2, say=said.append)
    names = sorted(file.name for file in one.folder.iterdir())
    assert [(many.folder / name).read_bytes() for name in names] == [
        (one.folder / name).read_bytes() for name in names
    ]
    assert said == [f"{records} records tokenised so far." for records in range(20, 501, 20)]


def test_who_waits_for_another_process_says_so(write: Write, cache: Path) -> None:
    path = write(("a", "b"))
    cache.mkdir()
    lock = (cache / f"{key_of([path], Letters())[:32]}.lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        lock.close()

    assert len(prepare([path], Letters(), cache, say=say)) == 1
    assert said == ["waiting for another process, which is tokenising the same data."]


@dataclass(frozen=True)
class Counting(Letters):
    log: Path = Path()
    pause: float = 0.0

    def encode(self, chain: Chain) -> Any:
        time.sleep(self.pause)
        with self.log.open("a") as log:
            log.write(f"{chain.id}\n")
        return super().encode(chain)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    (tmp_path / "log").touch()
    return Counting(log=tmp_path / "log")


def encoded(encoder: Counting) -> int:
    return len(encoder.log.read_text().splitlines())


def test_the_same_is_prepared_once(write: Write, cache: Path, counting: Counting) -> None:
    path = write(("a", "b"), ("c", "d"))
    first = prepare([path], counting, cache)
    os.utime(path, (1, 1))  # touched, not changed
    again = prepare([path], counting, cache)
    assert encoded(counting) == 2
    assert (texts(again), again.report) == (texts(first), first.report)


def test_what_decides_the_tokens_decides_the_key(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = write(("a", "b")), write(("a", "c"), name="other.jsonl")
    keys = [key_of([path], Letters()), key_of([other], Letters()), key_of([path, other], Letters())]
    keys += [key_of([other, path], Letters()), key_of([path], Letters(longest=7))]
    assert key_of([path], Letters()) == keys[0]
    write(("a", "B"))
    keys.append(key_of([path], Letters()))
    monkeypatch.setattr(module, "_SOURCES", ("jobs/licences.py",))
    keys.append(key_of([path], Letters()))
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_all_code_that_makes_tokens_is_part_of_the_key() -> None:
    listing = (
        "import sys, redraft.train.prepare\nprint(*(n for n in sys.modules if n.startswith('redraft.')))"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    root = Path(module.__file__).parents[1]
    loaded = {root.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in done.stdout.split()}
    keyed = {path for pattern in module._SOURCES for path in root.glob(pattern)}
    assert {str(path.relative_to(root)) for path in loaded - keyed if path.is_file()} == {
        "errors.py",
        "jobs/counting.py",
        "jobs/files.py",
        "jobs/formats.py",
        "jobs/ids.py",
        "jobs/parallel.py",
        "jobs/plugins.py",
        "train/processes.py",
    }  # they decide no token


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "names.bin", "prepared.json"])
@pytest.mark.parametrize("harm", ["removed", "cut", "flipped", "emptied"])
def test_damage_is_made_anew(write: Write, cache: Path, counting: Counting, name: str, harm: str) -> None:
    path = write(("a", "b"), ("c", "d"))
    first = prepare([path], counting, cache)
    before = texts(first)
    file = first.folder / name
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0x55  # in prepared.json, this is a hash
    new = {"cut": bytes(data[:-3]), "flipped": bytes(data), "emptied": b""}
    file.unlink()
    if harm != "removed":
        file.write_bytes(new[harm])
    assert texts(prepare([path], counting, cache)) == before
    assert encoded(counting) == 4
    prepare([path], counting, cache)
    assert encoded(counting) == 4


def test_what_a_killed_process_left_is_no_cache(write: Write, cache: Path) -> None:
    path = write(*[("a", "b")] * 2 * module.BATCH, ("die", "d"))
    work = ([path], Letters(deadly="die"), cache)
    child = multiprocessing.get_context("forkserver").Process(target=prepare, args=work)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list(cache.glob("*.partial/tokens.bin"))
    assert len(prepare([path], Letters(), cache)) == 2 * module.BATCH + 1
    assert not list(cache.glob("*.partial"))


def test_what_another_left_half_is_removed_unless_it_still_writes(write: Write, cache: Path) -> None:
    for name in ("left", "held"):
        (cache / f"{name}.partial").mkdir(parents=True)
        (cache / f"{name}.partial" / "tokens.bin").write_bytes(b"half")
    with (cache / "held.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare([write(("a", "b"))], Letters(), cache)
    assert [each.name for each in cache.glob("*.partial")] == ["held.partial"]


def test_an_interrupt_leaves_nothing_half(write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(("a", "b"))

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        prepare([path], Letters(), cache, say=interrupted)
    assert [each.suffix for each in cache.iterdir()] == [".lock"]


def test_of_many_at_once_one_makes_it(write: Write, cache: Path, counting: Counting) -> None:
    path = write(*[(f"q{n}", "a") for n in range(100)])
    slow = replace(counting, pause=0.005)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(prepare, [path], slow, cache) for _ in range(2)]
        assert [len(future.result()) for future in futures] == [100] * 2
    assert encoded(counting) == 100


def test_a_cache_that_cannot_be_written_is_said(write: Write, tmp_path: Path) -> None:
    path = write(("a", "b"))
    with pytest.raises(OutputError, match=r"(?s)data cannot be written to .*: Not a directory.*--cache_dir"):
        prepare([path], Letters(), path / "cache")


def test_a_record_that_is_none_is_named(write: Write, cache: Path) -> None:
    path = write(("a", "b"))
    with path.open("a") as file:
        file.write('{"instruction": \n')
    with pytest.raises(RecordError, match=r"(?s)data\.jsonl:2: this is not JSON.*-o OTHER\.jsonl leaves"):
        prepare([path], Letters(), cache)
    assert [each.suffix for each in cache.iterdir()] == [".lock"]


def test_no_record_at_all(write: Write, cache: Path) -> None:
    for paths in ([write()], []):
        with pytest.raises(UsageError, match="there is nothing to train on in 0 records"):
            prepare(paths, Letters(), cache)


def test_nothing_to_train_on_in_any_record(write: Write, cache: Path) -> None:
    path = write(("a", ""), ("b", ""))
    with pytest.raises(UsageError) as caught:
        prepare([path], Letters(), cache)
    assert "there is nothing to train on in 2 records: 2 skipped, no answer: data/0" in str(caught.value)
    assert caught.value.hint == Letters.wanted


def test_no_prompt_that_leaves_room_for_an_answer(write: Write, cache: Path) -> None:
    short = Encoder(tokenizer("bytes"), max_length=SHORTEST)
    with pytest.raises(UsageError, match=NO_ROOM) as caught:
        prepare([write(("a", "b"))], short, cache)
    assert caught.value.hint == "Raise --model_max_length: prompt and answer must fit into it."


def test_folders_and_missing_files_are_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)is a folder.*redraft data import"):
        prepare([tmp_path], Letters(), cache)
    with pytest.raises(RecordError, match="No such file"):
        prepare([tmp_path / "none.jsonl"], Letters(), cache)


def test_data_that_changes_while_it_is_read_is_refused(
    write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(("a", "b"))
    monkeypatch.setattr(module, "SECONDS", 0)
    with pytest.raises(UsageError, match="changed while it was read"):
        prepare([path], Letters(), cache, say=lambda _: path.write_text("{}\n") and None)
    assert not list(cache.glob("*.partial"))


# Processes.


UNGUARDED = """
import sys
from pathlib import Path
from redraft.train import prepare
from tests.train.letters import Letters
prepare.BATCH, prepare.WORTH_A_PROCESS = 1, 1
prepare.prepare([Path(sys.argv[1])], Letters(), Path(sys.argv[2]), workers=2)
"""


@pytest.mark.slow
def test_a_script_imported_again_does_not_wait_for_itself(write: Write, cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "begin.py"
    script.write_text(UNGUARDED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ["PYTHONPATH"]])}
    command = [sys.executable, str(script), str(write(*[("a", "b")] * 50)), str(cache)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "each worker process imports this script" in done.stderr
    said = done.stderr.splitlines()[-2:]
    assert "RedraftError" in said[0]
    assert '__name__ == "__main__":' in said[1]
