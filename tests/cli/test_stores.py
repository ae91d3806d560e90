"""Inputs and outputs in object stores: what fsspec gives, with stores that are full.

The store is fsspec's own in memory; `tests/engines/servers/test_s3.py` has one behind HTTP.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import Result

from tests.cli.verbs import lines, redraft, refused, script

OUT = "ill://bucket/out.jsonl"


class IllStore(MemoryFileSystem):
    protocol = "ill"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fine = 0  # how many calls succeed before
    failures = 0  # how many of the next calls fail
    error: OSError = OSError(errno.EIO, "Service Unavailable")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("ill://", "memory://"))
        return stripped

    def pipe_file(self, *args: Any, **how: Any) -> Any:
        self._write()
        return super().pipe_file(*args, **how)

    def put_file(self, *args: Any, **how: Any) -> Any:
        self._write()
        return super().put_file(*args, **how)

    def _write(self) -> None:
        if IllStore.fine:
            IllStore.fine -= 1
        elif IllStore.failures:
            IllStore.failures -= 1
            raise IllStore.error


@pytest.fixture(autouse=True)
def store(_folder: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[IllStore]:
    monkeypatch.setenv("REDRAFT_CACHE", str(Path("cache").absolute()))
    fsspec.register_implementation("ill", IllStore, clobber=True)
    for name, value in {"fine": 0, "failures": 0}.items():
        monkeypatch.setattr(IllStore, name, value)
    found: IllStore = fsspec.filesystem("ill")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    found.pipe_file("/bucket/prompts.txt", "".join(f"Describe thing {n}.\n" for n in range(20)).encode())
    script("A gull over the grey sea.")
    yield found
    found.store.clear()


def answer(*words: object, out: str = OUT) -> Result:
    return redraft(
        "answer", "ill://bucket/prompts.txt", "-o", out, "-m", "script:script.jsonl", "-j", 2, *words
    )


def names(store: IllStore) -> list[str]:
    return sorted(name.removeprefix("/bucket/") for name in store.store)


def text(store: IllStore, name: str = "out.jsonl") -> list[str]:
    return bytes(store.cat_file(f"/bucket/{name}")).decode().splitlines()


def test_shares_in_a_store_become_one_output_there(store: IllStore) -> None:
    for index in range(2):
        done = answer("--shard", f"{index}/2")
        assert done.exit_code == 0, done.output
        assert f"in ill://bucket/out-0000{index}-of-00002.jsonl" in done.stdout
    done = redraft("merge", OUT, "ill://bucket/out-*-of-00002.jsonl")
    assert done.exit_code == 0, done.output
    assert f"20 records in {OUT}, in the order of ill://bucket/prompts.txt" in done.stdout
    assert len(text(store)) == 20
    assert {"out.jsonl.run.json", "out.jsonl.journal.db"} <= set(names(store))
    assert "20 of them from earlier runs" in answer().stdout
    done = answer("--shard", "0/3")
    assert "answers    0 in" in done.stdout, done.stdout


def test_another_machine_goes_on_from_what_was_sent(store: IllStore, monkeypatch: pytest.MonkeyPatch) -> None:
    script("A gull over the grey sea.", delay=0.05, chunk=100)
    assert answer("--limit-seconds", 0.4).exit_code == 4
    assert 0 < (had := len(text(store))) < 20
    monkeypatch.setenv("REDRAFT_CACHE", str(Path("another").absolute()))
    script("A gull over the grey sea.")
    assert f"20 in {OUT}, {had} of them from earlier runs" in answer().stdout
    assert len(text(store)) == 20


def test_a_store_that_is_full_loses_nothing(store: IllStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IllStore, "failures", 1000)
    monkeypatch.setattr(IllStore, "error", OSError(errno.ENOSPC, "No space left on device"))
    refused(answer(), f"cannot write {OUT}: No space left on device.", "to resume")
    monkeypatch.setattr(IllStore, "fine", 1)  # so that it begins
    monkeypatch.setattr(IllStore, "failures", 1000)
    refused(answer(), f"cannot write {OUT}: No space left on device.", "the same command on this machine")
    assert names(store) == ["out.jsonl.run.json", "prompts.txt"]
    monkeypatch.setattr(IllStore, "failures", 0)
    assert f"20 in {OUT}, 20 of them from earlier runs" in answer().stdout
    assert len(text(store)) == 20


def test_data_from_store_to_store(store: IllStore) -> None:
    store.pipe_file("/bucket/raw.jsonl", b'{"instruction": "Add.", "output": "It is 3."}\n')
    words = ["data", "import", "ill://bucket/raw.jsonl", "-o", "ill://bucket/clean.jsonl", "-j", 1]
    assert (redraft(*words).exit_code, len(text(store, "clean.jsonl"))) == (0, 1)
    refused(redraft(*words), "ill://bucket/clean.jsonl exists.", "--force")
    assert redraft(*words, "--force").exit_code == 0
    assert lines(next(Path("cache").rglob("clean.jsonl")))[0]["id"] == "raw/0"


def test_what_cannot_be_read_or_opened(store: IllStore) -> None:
    store.rm_file("/bucket/prompts.txt")
    refused(answer(), "ill://bucket/prompts.txt: there is no such file.")
    refused(answer(out="nothing://bucket/out.jsonl"), "nothing://bucket/out.jsonl", "s3://, gs://, hf://")
    refused(redraft("merge", "out.jsonl", "ill://bucket/none.jsonl"), "none.jsonl cannot be read")
