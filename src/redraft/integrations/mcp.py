"""Offer `ask` and `check` as tools of the Model Context Protocol (`redraft mcp`).

Clients are not trusted with this machine, and may use only checks that name no file, program or model. The
user who starts the server sets the model and all limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from redraft.chain import Chain, Prompt
from redraft.checks.base import Check
from redraft.checks.kinds import check_kinds
from redraft.checks.parse import parse_check
from redraft.errors import MissingExtra, RedraftError
from redraft.integrations.judged import judged
from redraft.revision.api import arevise
from redraft.revision.options import RevisionOptions
from redraft.revision.settings import Settings

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ModuleNotFoundError:
    raise MissingExtra("redraft mcp", "mcp") from None


class Tools:
    """The tools `ask` and `check`. The first question opens the model, and `stack` closes the model."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._opening = asyncio.Lock()
        self._options: RevisionOptions | None = None

    async def ask(self, prompt: str, checks: list[str] | None = None) -> dict[str, Any]:
        """Ask the model. Its answer is checked and revised; the best answer is returned."""
        with _told():
            async with self._opening:
                if self._options is None:
                    self._options = await self._settings.opened(self._stack)
            options = self._options
            given = {**options.explicit, "checks": (*options.checks, *_parsed(checks or []))}
            chain: Chain = await arevise(Prompt(instruction=prompt), **given)
        steps = [
            {"answer": step.answer, "passed": step.passed, "feedback": step.criticism} for step in chain.steps
        ]
        return {"answer": chain.answer, "passed": chain.passed, "stop": chain.stop, "steps": steps}

    async def check(self, answer: str, checks: list[str], prompt: str = "") -> dict[str, Any]:
        """Check an answer. Return its score from 0 to 1, whether it passes, and what is wrong with it."""
        if not checks:
            raise ToolError("there are no checks. Give some: words<=50")
        with _told():
            found = await judged(_parsed(checks), answer, prompt)
        each = [result.model_dump(include={"name", "passed", "score", "message"}) for result in found.results]
        return {"score": found.score, "passed": found.passed, "feedback": found.feedback, "checks": each}


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RedraftError as error:  # clients see the text of a `ToolError` only
        raise ToolError(str(error)) from None


def _parsed(checks: list[str]) -> tuple[Check, ...]:
    return tuple(parse_check(check, writer="anyone") for check in checks)


async def serve(settings: Settings) -> None:
    """Serve on standard input and output until the client disconnects. Raise if the settings are wrong."""
    settings.check()
    forms = "\n".join(f"{kind.form}: {kind.about}" for kind in check_kinds("anyone").values())
    async with AsyncExitStack() as stack:
        tools = Tools(settings, stack)
        server = MCPServer("redraft", instructions=f"Checks have these forms:\n{forms}")
        server.tool()(tools.ask)
        server.tool()(tools.check)
        await server.run_stdio_async()
