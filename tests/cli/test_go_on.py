"""`redraft answer`, cut in its chains: finished answers and stored replies are not asked for again."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain
from tests.cli.verbs import chains, redraft, start, wait_until
from tests.engines.paid_server import TOKENS, PaidServer

PROMPTS, PARALLEL, CALLS = 12, 3, 5
NEEDED = PROMPTS * CALLS
"""An answer, and twice a criticism with its revision."""
NEW = TOKENS[1]
CACHE = ("--cache", "paid.db")


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
    """Start a run, and end it once so many calls were made."""
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
        # A reply that broke off after its first piece was paid for as well.
        assert NEW * CALLS <= chain.usage.completion_tokens <= NEW * CALLS + 2


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), CACHE])
def test_a_client_that_is_stopped_three_times_asks_for_no_more_than_was_cut(more: tuple[str, ...]) -> None:
    with slow() as server:
        for number, how in enumerate([signal.SIGKILL, signal.SIGINT, signal.SIGKILL], start=1):
            cut(server, 14 * number, how, *more)
        finish(server, *more)
        insist_on_all()
        cut_off = (
            PARALLEL if more else PARALLEL * CALLS
        )  # a call of each chain under way, or all of its calls
        assert len(server.messages) <= NEEDED + 3 * cut_off
        if more:
            Path("out.jsonl").unlink()
            asked = len(server.messages)
            again = redraft(*words(server, *more, "--limit-tokens", "1"))
            assert again.exit_code == 0, "no limit counts what is replayed"
            assert len(server.messages) == asked
            said = (
                f"cache      {NEEDED} texts taken from it, not paid again; this run paid for 0 new tokens\n"
            )
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
