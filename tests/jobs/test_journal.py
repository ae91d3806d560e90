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
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import OutputError
from redraft.jobs.journal import Journal, key_of


def test_a_reply_is_read_back_by_its_key_and_only_by_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.put("a", {"text": "Ein Dachs \U0001f9a1", "tokens": [1, 2]})
        assert journal.get("a") == {"text": "Ein Dachs \U0001f9a1", "tokens": [1, 2]}
        assert journal.get("b") is None


def test_the_first_reply_under_a_key_stays(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.put("a", 1)
        journal.put("a", 2)
        assert journal.get("a") == 1


def test_what_a_killed_process_stored_is_there(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from redraft.jobs.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); journal.put('a', 'paid')\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j.db")], check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(tmp_path / "j.db") as journal:
        assert journal.get("a") == "paid"


def test_two_may_use_one_file_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as one, Journal(tmp_path / "j.db") as other:
        one.put("a", 1)
        other.put("b", 2)
        assert one.get("b") == 2
        assert other.get("a") == 1


def test_a_lone_surrogate_can_be_stored(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.put(key_of("\ud800"), "\ud800")
        assert journal.get(key_of("\ud800")) == "\ud800"


@pytest.mark.parametrize("order", [{"a": 1, "b": 2}, {"b": 2, "a": 1}])
def test_the_order_of_fields_is_no_part_of_a_key(order: dict[str, int]) -> None:
    assert key_of(order) == key_of({"a": 1, "b": 2})


def test_text_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, and not a database at all" * 100)
    with pytest.raises(OutputError, match=r"notes\.txt") as refused:
        Journal(path)
    assert refused.value.hint
    assert path.read_text().startswith("my notes")


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE replies (key TEXT)")
    other.close()
    with pytest.raises(OutputError, match="another program"):
        Journal(tmp_path / "other.db")


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j.db").close()
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutputError, match="99"):
        Journal(tmp_path / "j.db")


def test_a_damaged_reply_is_said(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.put("a", "x" * 400)
    with (tmp_path / "j.db").open("r+b") as file:
        file.truncate((tmp_path / "j.db").stat().st_size - 50)
    with (
        pytest.raises(OutputError, match=r"j\.db cannot be used: .*damaged"),
        Journal(tmp_path / "j.db") as journal,
    ):
        journal.get("a")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"j\.db") as refused:
        Journal(tmp_path / "no" / "j.db")
    assert "folder must exist" in (refused.value.hint or "")


def test_many_processes_may_create_one_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from redraft.jobs.journal import Journal\n"
        "sys.stdin.read(1)\n"
        "for number in range(20): Journal(Path(sys.argv[1], f'{number}.db')).close()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    several = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in several:
        assert process.stdin is not None
        process.stdin.write(b".")
        process.stdin.flush()
    assert [process.communicate()[1] for process in several] == [b""] * 4


def test_replies_of_several_tasks_are_stored_together_and_each_before_it_is_used(tmp_path: Path) -> None:
    commits: list[int] = []

    async def store_all(journal: Journal) -> None:
        async def one(number: int) -> None:
            await journal.store(f"{number}", number)
            assert stored(tmp_path / "paid.db", f"{number}") == f"{number}"

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(one(number))

    with Journal(tmp_path / "paid.db") as journal:
        commit = journal._commit
        journal._commit = lambda replies: (commits.append(len(replies)), commit(replies))[1]  # type: ignore[assignment, method-assign]
        asyncio.run(store_all(journal))
    assert sum(commits) == 50
    assert len(commits) < 10


def test_a_reply_of_a_task_that_is_cancelled_is_stored(tmp_path: Path) -> None:
    async def cancelled(journal: Journal) -> None:
        task = asyncio.ensure_future(journal.store("key", "paid"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await journal.store("other", "paid")

    with Journal(tmp_path / "paid.db") as journal:
        asyncio.run(cancelled(journal))
        assert journal.get("key") == "paid"


def test_replies_on_their_way_when_the_journal_is_closed_are_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def cut() -> None:
        with Journal(tmp_path / "paid.db") as journal:
            commit = journal._commit
            journal._commit = lambda replies: (time.sleep(0.1), commit(replies))[1]  # type: ignore[method-assign]
            for key in ("one", "two"):  # the second waits for the commit of the first
                task = asyncio.ensure_future(journal.store(key, "paid"))
                await asyncio.sleep(0.02)
                task.cancel()
        await asyncio.sleep(0.3)

    asyncio.run(cut())
    gc.collect()
    assert [stored(tmp_path / "paid.db", key) for key in ("one", "two")] == ['"paid"'] * 2
    assert caplog.text == ""


def test_a_disk_that_fails_is_an_error_for_each_task(tmp_path: Path) -> None:
    async def both(journal: Journal) -> list[Any]:
        return await asyncio.gather(*(journal.store(f"{n}", n) for n in range(2)), return_exceptions=True)

    with Journal(tmp_path / "paid.db") as journal:
        journal._writer.execute("PRAGMA query_only = ON")
        errors = asyncio.run(both(journal))
        assert [type(error) for error in errors] == [OutputError, OutputError]
        assert journal.get("0") is None


def stored(path: Path, key: str) -> str:
    """Return what another process would find."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        found: str = db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()[0]
    return found
