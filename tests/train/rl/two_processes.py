"""The two processes of `test_two_processes`: PPO by DDP on a CPU.

A module of its own, so that processes can be started with it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import distributed

from redraft.chain import Chain
from redraft.errors import CheckError, ModelError
from redraft.train.checkpoints import newest
from redraft.train.loop import Loop
from redraft.train.processes import parting, place
from redraft.train.rl.rewards import Reward
from tests.train.rl.tiny_policy import loop, policy, rollouts, share_of_e
from tests.train.together import forked

RANKS = 2
KINDS: dict[str, dict[str, Any]] = {
    "ppo": {"target": 1.0, "num_rollouts": 16},
    "grpo": {"algorithm": "grpo"},
    "uneven": {"num_rollouts": 12},  # three chunks for two processes
}
CHUNKS = 16 // 4  # chunks of a rollout batch of the first kind

HALF = 5  # a step in the middle of a rollout batch, with a checkpoint


def made(folder: Path, kind: str, reward: Reward = share_of_e) -> Loop:
    """A run of 16 steps, with a checkpoint every 5 and a line of the log every 2. Steps have 4 responses."""
    size = 4 // place()[1]
    read = rollouts(folder, policy(**KINDS[kind]), reward, size=size)
    return loop(
        folder, read, per_device_train_batch_size=size, save_steps=HALF, learning_rate=1e-3, logging_steps=2
    )


class Stops:
    """A reward during which this process gets SIGTERM, when it judges so many chunks."""

    def __init__(self, chunks: int) -> None:
        self._left = chunks

    async def __call__(self, chains: Sequence[Chain]) -> list[float]:
        self._left -= 1
        if not self._left:
            self.at_last()
        return await share_of_e(chains)

    def at_last(self) -> None:
        signal.raise_signal(signal.SIGTERM)


class Fails(Stops):
    def at_last(self) -> None:
        raise CheckError("the reward is broken")


def one_fails(folder: Path) -> str:
    try:
        with parting():
            made(folder, "ppo", Fails(2) if place()[0] else share_of_e).run()
    except (CheckError, ModelError) as error:
        return str(error)
    return "nothing"


def main() -> None:
    folder = Path(sys.argv[1])
    with forked(folder, RANKS) as rank:
        for kind in KINDS:
            made(folder / kind, kind).run()
        # One process is told to stop in the middle of the second rollout batch. Both do, and go on.
        stopped = folder / "stopped"
        told = made(stopped, "ppo", Stops(CHUNKS // RANKS + 1) if place()[0] else share_of_e)
        a_batch = told.steps_an_epoch
        assert (told.run(), told.stopped) == (a_batch, signal.SIGTERM)
        assert len((stopped / "samples.jsonl").read_text().splitlines()) == 16 + 4 * RANKS
        distributed.barrier()
        assert made(stopped, "ppo").run(newest(stopped)[0]) == 16
        again, whole = folder / "resumed", folder / "ppo"
        if not place()[0]:
            again.mkdir()
            (again / "log.jsonl").write_bytes((whole / "log.jsonl").read_bytes())
            (again / f"checkpoint-{HALF}").symlink_to(whole / f"checkpoint-{HALF}")
        distributed.barrier()
        made(again, "ppo").run(newest(again)[0])
        distributed.barrier()
        (folder / f"said-{rank}").write_text(one_fails(folder / "fails"))


if __name__ == "__main__":
    main()
