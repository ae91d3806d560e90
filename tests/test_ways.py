"""The ways of examples/ways, each with its library as it is today, and a server that says what it is told."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engines.fake_server import FakeServer, Reply, Request, json_reply
from tests.engines.servers.environments import environment
from tests.test_docs import ROOT

pytestmark = pytest.mark.slow
BAD, GOOD = "It is water that falls.", "It is rain."
TOKENS = 7  # new ones, of each reply
DSPY = "\n\n".join(
    f"[[ ## {name} ## ]]\n{value}"
    for name, value in (("answer", "{}"), ("discussion", "Long."), ("advice", "{{}}"), ("completed", ""))
)
OPTILLM = (  # without what it needs for local models and its page, which is a gigabyte
    "--no-deps optillm flask werkzeug itsdangerous blinker z3-solver networkx cerebras-cloud-sdk math-verify "
    "latex2sympy2-extended antlr4-python3-runtime==4.13.2 sympy mpmath aiohttp aiohappyeyeballs aiosignal "
    "attrs frozenlist multidict propcache yarl openai"
)
NEEDS = {"mellea": "mellea", "instructor": "instructor", "dspy": "dspy", "optillm": OPTILLM}
RUN = """
import json, sys
from redraft.evaluation.arbiter.peers import Peer
from redraft.checks.parse import parse_checks

checks, sampling = parse_checks(["words<=3"]), {"temperature": 0.5, "max_tokens": 50}
print(json.dumps(Peer.of(sys.argv[1]).answer("Describe rain.", checks, sys.argv[2], 1, sampling)))
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def completion(*texts: str) -> Reply:
    choices = [
        {"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for place, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": TOKENS, "total_tokens": 5 + TOKENS}
    return json_reply(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": choices,
            "usage": usage,
        }
    )


def asked(server: FakeServer) -> list[Any]:
    return [request.json for request in server.asked("POST /v1/chat/completions")]


def run(way: str, server: FakeServer, says: Callable[[Request], Reply]) -> tuple[str, int]:
    """Run a way in the environment of its library. Return its answer, and how many tokens it counts."""
    library = way.removeprefix("with_").partition(":")[0]
    python = environment(f"way-{library}", NEEDS[library], borrowing=True) / "python"
    server.on("POST /v1/chat/completions", says)
    paths = [ROOT / "examples" / "ways", ROOT / "src", os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", RUN, way, f"{server.url}#m"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer, tokens = json.loads(done.stdout.splitlines()[-1])
    return answer, tokens


@pytest.mark.parametrize(
    ("way", "form"),
    [
        ("with_mellea:mellea_repair", "{}"),
        ("with_instructor:instructor_retry", '{{"text": "{}"}}'),
        ("with_dspy:dspy_refine", DSPY),
    ],
)
def test_a_way_goes_on_until_an_answer_passes(server: FakeServer, way: str, form: str) -> None:
    def says(request: Request) -> Reply:
        first = len(server.asked("POST /v1/chat/completions")) == 1
        return completion(form.format(BAD if first else GOOD))

    answer, tokens = run(way, server, says)
    assert answer == GOOD
    requests = asked(server)
    assert tokens == TOKENS * len(requests) > TOKENS
    assert all(each.get("max_tokens", each.get("max_completion_tokens")) == 50 for each in requests)
    assert requests[0]["model"] == "m"
    if "dspy" not in way:  # whose Refine draws at temperature 1, and asks for advice by the score
        assert requests[0]["temperature"] == 0.5
        assert "2 too many" in json.dumps(requests[1:])


@pytest.mark.parametrize(
    ("way", "form"),
    [
        ("with_mellea:mellea_repair", "{}"),
        ("with_instructor:instructor_retry", '{{"text": "{}"}}'),
        ("with_dspy:dspy_refine", DSPY),
    ],
)
def test_a_way_that_never_passes_returns_what_it_has(server: FakeServer, way: str, form: str) -> None:
    answer, tokens = run(way, server, lambda _: completion(form.format(BAD)))
    assert (answer, tokens) == (BAD, TOKENS * len(asked(server)))
    texts = [each for each in asked(server) if "discussion" not in json.dumps(each)]
    assert len(texts) == 2


def test_a_reply_that_cannot_be_read_is_an_empty_answer_and_takes_its_tokens(server: FakeServer) -> None:
    answer, tokens = run("with_instructor:instructor_retry", server, lambda _: completion("No JSON."))
    assert (answer, tokens) == ("", TOKENS * len(asked(server)))
    server.requests.clear()
    answer, tokens = run("with_dspy:dspy_refine", server, lambda _: completion("No fields."))
    assert (answer, tokens) == ("", TOKENS * len(asked(server)))


def test_optillm_takes_the_answer_that_the_model_rates_best(server: FakeServer) -> None:
    def says(request: Request) -> Reply:
        said = request.json["messages"]
        if "Rate" not in said[-1]["content"]:
            return completion(BAD, GOOD)
        return completion("9" if said[-2]["content"] == GOOD else "2")

    assert run("with_optillm:optillm_bon", server, says) == (GOOD, 3 * TOKENS)
    assert asked(server)[0]["max_tokens"] == 50
