"""`--batch`: the same chains as live, in waves; nothing is paid twice, whatever happens to run or batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import Chain, read_jsonl
from redraft.cli import app
from tests.engines.batch_server import BatchServer, Fault

PROMPTS = 6
TWO_STEPS = ["--mode", "prompted", "--max-revisions", "1", "--context", "chain"]


def says(body: dict[str, Any]) -> str:
    """Return a reply that depends only on the prompt and on the number of the call in its chain."""
    messages = body["messages"]
    before = sum(message["role"] == "assistant" for message in messages)
    if before % 2:
        return f"Draft {before} is too dull for thing {messages[0]['content']}. Revision is needed."
    return f"Version {before} of a fine gull\u2028over the sea for {messages[0]['content']}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_prompts(PROMPTS)
    return tmp_path


def write_prompts(count: int) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(count)))


def words(server: BatchServer, *more: str, out: str = "out.jsonl") -> list[str]:
    return ["answer", "prompts.txt", "-o", out, "-m", server.model, *TWO_STEPS, *more]


def answer(server: BatchServer, *more: str, out: str = "out.jsonl") -> Result:
    args = words(server, "--batch", "--pause", "0.01", *more, out=out)
    return CliRunner().invoke(app, args, prog_name="redraft")


def chains(out: str = "out.jsonl") -> list[Chain]:
    return sorted(read_jsonl(Path(out)), key=lambda chain: chain.id)


def told(chain: Chain) -> Any:
    """What a chain tells, but for the seconds."""
    record = json.loads(chain.to_json())
    for usage in (record["usage"], *(step["usage"] for step in record["steps"])):
        usage.pop("seconds")
    return record


def test_a_run_in_batches_makes_the_chains_of_a_live_run() -> None:
    with BatchServer(says) as server:
        done = answer(server)
        assert done.exit_code == 0, done.output
        assert server.waves == [PROMPTS] * 3
        assert set(server.paid.values()) == {1}
        assert server.live == []
        live = CliRunner().invoke(app, words(server, out="live.jsonl"), prog_name="redraft")
        assert live.exit_code == 0, live.output
    assert list(map(told, chains())) == list(map(told, chains("live.jsonl")))
    assert len(chains()) == PROMPTS
