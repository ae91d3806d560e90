"""`redraft train watch`: a page that follows a run until it has ended."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("vl_convert")

from redraft.cli.train.watching import watch

SAMPLE = {
    "rollout": 0,
    "row": 0,
    "id": "p/1",
    "prompt": "Name a river.",
    "answer": "The Nile.",
    "reward": 0.5,
}


def write(path: Path, *records: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write("".join(json.dumps(each) + "\n" for each in records))


def running(folder: Path, **more: Any) -> None:
    session = {"pid": os.getpid(), "host": socket.gethostname(), **more}
    record = {"command": "train ppo", "config": {"steps": 4}, "sessions": [session]}
    folder.with_name(f"{folder.name}.run.json").write_text(json.dumps(record))


def until_it_says(page: Path, *texts: str) -> str:
    for _ in range(600):
        said = page.read_text("utf-8") if page.exists() else ""
        if all(text in said for text in texts):
            return said
        time.sleep(0.1)
    raise AssertionError(f"{page} never said {texts}")


@pytest.mark.slow
def test_the_page_follows_a_run_until_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.cli.train.watching.EVERY", 1)
    folder, page = tmp_path / "out", tmp_path / "out.watch.html"
    folder.mkdir()
    running(folder)
    write(folder / "log.jsonl", {"step": 2, "loss": 0.5, "reward": 0.25})
    write(folder / "samples.jsonl", SAMPLE)
    thread = Thread(target=watch, args=(folder,))
    thread.start()
    try:
        said = until_it_says(page, "The run goes on.", "of 4 steps", "The Nile.")
        assert 'http-equiv="refresh" content="1"' in said
        assert 'href="out.watch.chains.html#0%2F0"' in said
        assert '"0/0"' in (tmp_path / "out.watch.chains.html").read_text("utf-8")
        write(folder / "samples.jsonl", {**SAMPLE, "rollout": 1, "answer": "The Po."})
        write(folder / "log.jsonl", {"step": 4, "loss": 0.25, "reward": 0.75})
        assert "The Nile." not in until_it_says(page, "0.750", "The Po.")
    finally:
        running(folder, ended="now", steps=4)
        thread.join(60)
    assert not thread.is_alive()
    assert 'http-equiv="refresh"' not in until_it_says(page, "The run has ended: 4 steps.")
