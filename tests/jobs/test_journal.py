"""The journal: what is stored survives, and a file that is no journal is refused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import OutputError
from redraft.jobs.journal import Journal, key_of, raw_key

A, B = key_of("a"), key_of("b")


def test_a_reply_is_read_back_by_its_key_and_only_by_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        for text in ("Ein Dachs \U0001f9a1 \ud800", "the second under a key"):
            journal.put({A: {"text": text, "tokens": [1, 2]}})
        assert journal.get(A) == {"text": "Ein Dachs \U0001f9a1 \ud800", "tokens": [1, 2]}
        assert journal.get(B) is None


@pytest.mark.parametrize("other", ["text", "program", "version"])
def test_what_is_no_journal_is_refused_and_left_as_it_was(tmp_path: Path, other: str) -> None:
    path = tmp_path / "j.db"
    if other == "text":
        path.write_text("my notes, and not a database at all" * 100)
    else:
        if other == "version":
            with Journal(path):
                pass
        with sqlite3.connect(path) as db:
            db.execute(
                "CREATE TABLE replies (key TEXT)" if other == "program" else "PRAGMA user_version = 99"
            )
        db.close()
    before = path.read_bytes()
    said = {"text": "not a database", "program": "another program", "version": "file has version 99"}[other]
    with pytest.raises(OutputError, match=said) as refused:
        Journal(path)
    assert refused.value.hint
    assert path.read_bytes() == before


def test_what_a_killed_process_stored_is_there(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from redraft.jobs.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); journal.put({sys.argv[2]: 'paid'})\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j.db"), A], check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(tmp_path / "j.db") as journal:
        assert journal.get(A) == "paid"


def test_two_may_use_one_file_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as one, Journal(tmp_path / "j.db") as other:
        one.put({A: 1})
        other.put({B: 2})
        assert (one.get(B), other.get(A)) == (2, 1)


def test_the_order_of_fields_is_no_part_of_a_key() -> None:
    assert key_of({"b": 2, "a": 1}) == key_of({"a": 1, "b": 2})


@pytest.mark.parametrize("reply", [b"no zlib", zlib.compress(b"no JSON"), "a text"], ids=str)
def test_a_damaged_reply_is_said(tmp_path: Path, reply: bytes | str) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.put({A: "x" * 400})
        journal._db.execute("UPDATE packed SET reply = ?", (reply,))
        with pytest.raises(OutputError, match=r"j\.db cannot be used: one is damaged"):
            journal.get(A)


def test_a_file_that_was_cut_short_is_said(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.put({A: "x" * 400})
    with (tmp_path / "j.db").open("r+b") as file:
        file.truncate((tmp_path / "j.db").stat().st_size // 2)
    with (
        pytest.raises(OutputError, match=r"j\.db cannot be used: .*malformed"),
        Journal(tmp_path / "j.db") as journal,
    ):
        journal.get(A)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"j\.db") as refused:
        Journal(tmp_path / "no" / "j.db")
    assert "folder must exist" in (refused.value.hint or "")


def test_many_processes_may_create_one_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from redraft.jobs.journal import Journal\n"
        "sys.stdin.read(1)\n"
        "for number in range(20):\n    with Journal(Path(sys.argv[1], f'{number}.db')): pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    several = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in several:
        assert process.stdin is not None
        process.stdin.write(b".")
        process.stdin.flush()
    assert [process.communicate()[1] for process in several] == [b""] * 4


def test_replies_of_several_tasks_are_written_at_once_and_synced_together_before_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def slow(log: Path) -> None:
        assert log == tmp_path / "paid.db-wal"
        written = stored(tmp_path / "paid.db")
        time.sleep(0.02)
        synced.append(len(written))

    async def store_all(journal: Journal) -> None:
        async def one(number: int) -> None:
            await asyncio.sleep(number / 1000)
            storing = asyncio.ensure_future(journal.store(key_of(number), number))
            await asyncio.sleep(0)
            written = stored(tmp_path / "paid.db")
            assert key_of(number) in written
            await storing
            assert synced[-1] >= len(written)

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(one(number))

    monkeypatch.setattr("redraft.jobs.journal.sync", slow)
    with Journal(tmp_path / "paid.db") as journal:
        asyncio.run(store_all(journal))
    assert synced[-1] == 50
    assert len(synced) < 20


def test_a_reply_of_a_task_that_is_cancelled_is_stored(tmp_path: Path) -> None:
    async def cancelled(journal: Journal) -> None:
        task = asyncio.ensure_future(journal.store(A, "paid"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await journal.store(B, "paid")

    with Journal(tmp_path / "paid.db") as journal:
        asyncio.run(cancelled(journal))
        assert journal.get(A) == "paid"


def test_replies_on_their_way_when_the_journal_is_closed_are_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def cut() -> None:
        with Journal(tmp_path / "paid.db") as journal:
            sync = journal._sync
            journal._sync = lambda: (time.sleep(0.1), sync())[1]  # type: ignore[method-assign, func-returns-value]
            for key in (A, B):  # the second waits for the sync of the first
                task = asyncio.ensure_future(journal.store(key, "paid"))
                await asyncio.sleep(0.02)
                task.cancel()
        await asyncio.sleep(0.3)

    asyncio.run(cut())
    gc.collect()
    assert stored(tmp_path / "paid.db") == {A, B}
    assert caplog.text == ""


def test_a_disk_that_cannot_sync_is_an_error_for_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    async def both(journal: Journal) -> list[Any]:
        return await asyncio.gather(*(journal.store(key, 1) for key in (A, B)), return_exceptions=True)

    monkeypatch.setattr("redraft.jobs.journal.sync", full)
    with Journal(tmp_path / "paid.db") as journal:
        errors = asyncio.run(both(journal))
    assert [type(error) for error in errors] == [OutputError, OutputError]
    assert "No space left" in errors[0].message


def test_a_raw_reply_is_removed_once_what_was_read_of_it_is_stored(tmp_path: Path) -> None:
    with Journal(tmp_path / "paid.db") as journal:
        journal.put({raw_key(key): "raw" for key in (A, B)})
        asyncio.run(journal.store(A, "read"))
        assert [journal.get(key) for key in (raw_key(A), raw_key(B), A)] == [None, "raw", "read"]


def stored(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {key.hex() for (key,) in db.execute("SELECT key FROM packed")}
