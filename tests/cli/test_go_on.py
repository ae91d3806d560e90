"""`redraft answer`, cut in the middle of its chains: no complete step or stored reply is asked for again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain
from tests.cli.verbs import chains, redraft, start, wait_until
from tests.engines.paid_server import TOKENS, PaidServer

PROMPTS, PARALLEL, CALLS = 12, 3, 5
NEEDED = PROMPTS * CALLS  # an answer, and twice a criticism with its revision
NEW = TOKENS[1]
UNFINISHED = Path("out.jsonl.unfinished.jsonl")


@pytest.fixture(autouse=True)
def _prompts(_folder: None) -> None:
    ask(PROMPTS)


def ask(count: int) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(count)))


def slow(seconds: float = 0.03, **how: Any) -> PaidServer:
    return PaidServer(seconds=seconds, **how)


def words(server: PaidServer, *more: str) -> list[str]:
    loop = ["--mode", "prompted", "--context", "chain", "--max-revisions", "2", "-j", str(PARALLEL), *more]
    return ["answer", "prompts.txt", "-o", "out.jsonl", "-m", server.model, *loop]


def cut(server: PaidServer, calls: int, how: signal.Signals, *more: str) -> None:
    with start(*words(server, *more)) as job:
        wait_until(lambda: len(server.messages) >= calls)
        job.send_signal(how)
        job.communicate(timeout=60)


def finish(server: PaidServer, *more: str) -> list[Chain]:
    done = redraft(*words(server, *more))
    assert done.exit_code == 0, done.output
    return chains()


def insist_on_all() -> None:
    made = sorted(chains(), key=lambda chain: int(chain.id.split("/")[1]))
    assert [chain.id for chain in made] == [f"prompts/{n}" for n in range(PROMPTS)]
    for chain in made:
        asked = f"Describe thing {chain.id.split('/')[1]}."
        assert [step.answer for step in chain.steps] == [
            f"Version {n} of a fine gull over the sea for {asked}" for n in (0, 2, 4)
        ]
        assert chain.stop == "max_revisions"
        # A reply that broke off was paid for as well: at most its whole text, of which tokens are estimated.
        assert NEW * CALLS <= chain.usage.completion_tokens <= NEW * CALLS + len(chain.answer) // 2


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--cache", "paid.db")])
def test_a_client_that_is_stopped_three_times_asks_for_nothing_complete_again(more: tuple[str, ...]) -> None:
    with slow() as server:
        for number, how in enumerate([signal.SIGKILL, signal.SIGINT, signal.SIGKILL], start=1):
            cut(server, 14 * number, how, *more)
        finish(server, *more)
        insist_on_all()
        assert len(server.messages) <= NEEDED + 3 * PARALLEL
        assert not UNFINISHED.exists()
        if more:
            Path("out.jsonl").unlink()
            asked = len(server.messages)
            again = redraft(*words(server, *more, "--limit-tokens", "1"))
            assert again.exit_code == 0, "no limit counts what is replayed"
            assert len(server.messages) == asked
            said = f"cache      {NEEDED} texts reused and not paid for again; this run paid for 0 new tokens"
            assert said in again.stdout


@pytest.mark.slow
def test_a_server_that_is_killed_once_is_asked_for_nothing_complete_again() -> None:
    with slow() as server:
        job = start(*words(server, "--patience", "60"))
        wait_until(lambda: len(server.messages) >= 29)
    with slow(port=server.port) as restarted:
        out, said = job.communicate(timeout=120)
    assert job.returncode == 0, out + said
    insist_on_all()
    assert len(server.messages) + len(restarted.messages) <= NEEDED + PARALLEL


def test_what_was_paid_before_counts_towards_the_budget() -> None:
    ask(1)
    with slow() as server:
        cut(server, 2, signal.SIGKILL, "--budget-tokens", f"{3 * NEW}")
        [chain] = finish(server, "--budget-tokens", f"{3 * NEW}")
        assert (chain.stop, chain.usage.completion_tokens) == ("budget", 3 * NEW)
        assert len(server.messages) == 4


def kept_of(server: PaidServer) -> dict[str, Any]:
    ask(1)
    cut(server, 4, signal.SIGKILL)
    kept: dict[str, Any] = json.loads(UNFINISHED.read_bytes().splitlines()[-1])
    return kept


def damaged(kept: dict[str, Any]) -> dict[str, str]:
    other = {**kept["work"], "prompt": {"instruction": "Another."}}
    return {
        "torn": json.dumps(kept)[:-40],
        "noise": "\x00\xff{[\n",
        "nested": "[" * 100_000 + "\n",
        "wrong work": json.dumps({**kept, "work": {"steps": 3}}) + "\n",
        "other prompt": json.dumps({**kept, "work": other}) + "\n",
        "endless": json.dumps({**kept, "work": {**kept["work"], "usage": {"seconds": float("nan")}}}) + "\n",
    }


@pytest.mark.slow
def test_a_damaged_file_never_breaks_the_run() -> None:
    other = Path("other.txt")
    with slow(0.05) as server:
        kept = kept_of(server)
        other.write_text("mine\n")
        for damage in [*damaged(kept), "link", "folder"]:
            UNFINISHED.unlink(missing_ok=True)
            Path("out.jsonl").write_text("")
            if damage == "folder":
                UNFINISHED.mkdir()
            elif damage == "link":
                UNFINISHED.symlink_to(other)
            else:
                UNFINISHED.write_text(damaged(kept)[damage])
            asked = len(server.messages)
            assert len(finish(server)[0].steps) == 3
            assert len(server.messages) == asked + CALLS, damage
    assert other.read_text() == "mine\n"
    assert UNFINISHED.is_dir()
    assert not list(Path().glob("*.part"))


@pytest.mark.slow
def test_work_of_other_settings_or_of_a_deleted_output_is_not_used() -> None:
    with slow(0.05) as server:
        kept = kept_of(server)
        finish(server, "--temperature", "0")
        assert len(server.messages) == 4 + CALLS
        Path("out.jsonl").unlink()
        UNFINISHED.write_text(json.dumps(kept) + "\n")
        finish(server)
        assert len(server.messages) == 4 + 2 * CALLS
        Path("out.jsonl").write_text("")
        UNFINISHED.write_text(json.dumps(kept) + "\n")
        finish(server)
        assert len(server.messages) <= 4 + 2 * CALLS + 2
