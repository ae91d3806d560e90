"""optillm: a proxy before a server of models."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
import json

from tried import Replies, main, tries

LONG = "Rain is wet and cold."


@contextmanager
def proxy(server: Replies, *words: str) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = ["optillm", "--port", str(port), "--base-url", server.url, "--model", "m", *words]
    with subprocess.Popen(command, env={**os.environ, "OPENAI_API_KEY": "none"}) as running:
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            running.kill()


def post(url: str, model: str, key: str = "none", **more: object) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Describe rain."}], **more}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(json.loads(reply.read())["choices"][0]["message"]["content"])


@tries("an API like OpenAI's")
def _(server: Replies) -> None:
    server.says("Rain.")
    with proxy(server) as url:
        assert post(url, "none-m") == "Rain."


@tries("best of several samples")
@tries("a model judges an answer by a sentence")
def _(server: Replies) -> str:
    server.says(LONG, "5", "Rain.", "9")
    with proxy(server) as url:
        assert post(url, "bon-m")
    assert len(server.requests) > 1
    return "`bon`: the model rates its samples; by no sentence of yours"


@tries("the model criticises itself, then revises")
@tries("the API's answers are checked and revised")
def _(server: Replies) -> str:
    server.says("<thinking>a</thinking><reflection>b</reflection><output>Rain.</output>")
    with proxy(server) as url:
        assert post(url, "cot_reflection-m") == "Rain."
    return "`cot_reflection`, in one reply; by no check"


@tries("searches such as trees or majority votes")
def _(server: Replies) -> None:
    server.says("Rain.")
    with proxy(server) as url:
        assert post(url, "self_consistency-m") == "Rain."
    assert len(server.requests) > 2


@tries("a conversation of several turns")
def _(server: Replies) -> str:
    server.says("Rain.")
    with proxy(server) as url:
        post(
            url,
            "none-m",
            messages=[
                {"role": "user", "content": "A"},
                {"role": "assistant", "content": "B"},
                {"role": "user", "content": "C"},
            ],
        )
    assert "C" in server.last
    return "passed through"


@tries("a text while it is written")
def _(server: Replies) -> str:
    server.says(LONG)
    with proxy(server) as url:
        body = {
            "model": "none-m",
            "stream": True,
            "messages": [{"role": "user", "content": "Describe rain."}],
        }
        headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert reply.read().count(b"data:") > 1
    return "the whole answer is made first"


@tries("keys for users")
def _(server: Replies) -> str:
    server.says("Rain.")
    with proxy(server, "--optillm-api-key", "secret") as url:
        assert post(url, "none-m", key="secret") == "Rain."
        try:
            post(url, "none-m", key="wrong")
        except urllib.error.HTTPError as error:
            assert error.code in (401, 403)
            return "one key for all"
    raise AssertionError


@tries("a command for the terminal")
def _(server: Replies) -> str:
    assert (
        "--approach"
        in subprocess.run(["optillm", "--help"], capture_output=True, text=True, check=True).stdout
    )
    return "it starts the proxy"


LACKS = {
    "an object of a pydantic type": "a schema is passed through",
    "a function of yours as a check": "as a plugin that is a whole way to answer",
    "another model criticises": "",
    "the best answer is kept if none passes": "",
    "a failed answer goes back with what is wrong": "",
}

if __name__ == "__main__":
    main(LACKS)
