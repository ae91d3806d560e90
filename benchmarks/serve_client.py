"""A client for servers like OpenAI's that uses almost no processor time, so only the server is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Address:
    port: int
    key: str = ""

    def request(self, body: Any, path: str = CHAT, *, close: bool = True) -> bytes:
        text = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(text)}\r\n"
        )
        return f"{head}{'Connection: close' if close else 'Connection: keep-alive'}\r\n\r\n".encode() + text


@dataclass(frozen=True)
class Timed:
    first: float  # seconds until the first text
    seconds: float  # seconds until the end
    tokens: int  # new tokens, as the server counts them


def chat(prompt: str, tokens: int, model: str = "default", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }


async def events(address: Address, body: Any, path: str = CHAT) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the events of a stream. Closing the generator closes the connection.

    Raises:
        RuntimeError: The server refused the request.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    try:
        writer.write(address.request(body, path))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError((head + await reader.read()).decode("utf-8", "replace"))
        async for line in reader:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        writer.close()


async def timed(address: Address, body: Any) -> Timed:
    start, first, tokens = time.perf_counter(), 0.0, 0
    async with aclosing(events(address, body)) as stream:
        async for event in stream:
            if not first and any(choice["delta"].get("content") for choice in event["choices"]):
                first = time.perf_counter() - start
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return Timed(first, time.perf_counter() - start, tokens)
