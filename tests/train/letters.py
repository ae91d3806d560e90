"""An encoder for tests: each letter is a token, and a sign ends the text. Any process can load it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import numpy as np

from redraft.chain import Chain
from redraft.chain.encoder import Cut, Example, Skipped
from redraft.chain.read.records import RawRecord

END = 0


@dataclass(frozen=True)
class Letters:
    """Encode prompt and best answer by letters. The answer and the final sign carry loss."""

    wanted = "A record has an answer."

    longest: int = 1000  # the most tokens: the beginnings of longer prompts are cut
    deadly: str = ""  # an instruction that kills the process

    @property
    def fingerprint(self) -> str:
        return f"letters {self.longest}"

    def chains(self, record: RawRecord) -> tuple[Chain]:
        return (record.chain(),)

    def encode(self, chain: Chain) -> Example | Skipped:
        if self.deadly and chain.prompt.instruction == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if not chain.answer:
            return Skipped("no answer")
        ids = np.array([*map(ord, chain.prompt.text + chain.answer), END], np.uint32)
        trained = np.arange(len(ids)) >= len(chain.prompt.text)
        over = max(len(ids) - self.longest, 0)
        return Example(ids[over:], trained[over:], Cut(over, over))
