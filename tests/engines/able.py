"""A scripted engine that tells abilities of itself as a test wants them, and keeps how it was asked.

engine = Able(["Hi."], about={"native": True, "roles": True})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redraft.engines.base import EngineInfo, Replies, Sampling
from redraft.engines.scripted import Call, ScriptedEngine

OF_TEXT = {"any_request": False, "any_message": False, "tools": False}
"""About an engine that takes text alone."""


@dataclass
class Able(ScriptedEngine):
    about: Mapping[str, Any] = field(default_factory=dict)
    asked: list[Sampling] = field(default_factory=list)
    others: tuple[str, ...] = ()  # other texts for each gap

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, **self.about)

    async def _reply(self, asked: Call, sampling: Sampling, stop: Sequence[str], begun: str = "") -> Replies:
        self.asked.append(sampling)
        others = self.others if sampling.form and sampling.form.gap else ()
        async for delta in super()._reply(asked, sampling, stop, begun):
            yield replace(delta, others=others) if delta.finish else delta
