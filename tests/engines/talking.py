from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from redraft.engines.base import Delta, Engine, PromptText, Sampling
from redraft.options import MachineOptions
from tests.cli.verbs import wait_until

T = TypeVar("T")
GREEDY = Sampling(temperature=0.0, max_tokens=20)
ONE = MachineOptions(threads=1)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


async def collect(deltas: AsyncGenerator[Delta, None]) -> list[Delta]:
    return [delta async for delta in deltas]


def said(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def tokens_of(deltas: Sequence[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.tokens]


async def continued(
    engine: Engine, prompt: PromptText, sampling: Sampling = GREEDY, stop: tuple[str, ...] = ()
) -> list[Delta]:
    return await collect(engine.stream(prompt, sampling, stop))


def continued_together(engine: Engine, prompts: Sequence[PromptText]) -> list[list[Delta]]:
    async def all_of_them() -> list[list[Delta]]:
        found = await asyncio.gather(*(continued(engine, each) for each in prompts))
        await engine.aclose()
        return found

    return run(all_of_them())


PARENT = """
import asyncio, sys
from pathlib import Path
from {room} import {engine}
async def main():
    engine = await {engine}.start(Path(sys.argv[1]))
    print(engine._kept.child._process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def ends_with_its_parent(engine: type, model: Path) -> None:
    code = PARENT.format(room=engine.__module__, engine=engine.__name__)
    with subprocess.Popen([sys.executable, "-c", code, model], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = Path(f"/proc/{int(parent.stdout.readline())}/stat")
        parent.kill()

    def ended() -> bool:
        try:
            return child.read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    wait_until(ended, 30)


def called(town: str) -> list[Any]:
    function = {"name": "weather", "arguments": json.dumps({"town": town})}
    call = {"id": town, "type": "function", "function": function}
    return [
        {"role": "user", "content": f"What is the weather in {town}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": town, "content": "sunny"},
        {"role": "assistant", "content": f"It is sunny in {town}."},
    ]
