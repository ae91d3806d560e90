from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from typer.testing import Result

from tests.cli.verbs import redraft, start

LONG, SHORT = "Rain is water, and it is wet, and it is cold.", "Rain is water that falls."
WAIT = 60


@pytest.fixture(autouse=True)
def _rain(_folder: None) -> None:
    Path("rain.jsonl").write_text(f"{json.dumps(LONG)}\n{json.dumps(SHORT)}\n")


@dataclass
class Running:
    process: subprocess.Popen[str]
    said: str
    url: str = ""

    def ask(self, model: str, **more: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": "Describe rain."}], **more}
        return httpx.post(f"{self.url}/chat/completions", json=body, timeout=WAIT).json()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        assert self.process.stderr
        log = self.process.stderr.read()  # `communicate` would lose what `readline` has buffered
        return self.process.wait(WAIT), log


@contextmanager
def running(*words: str) -> Iterator[Running]:
    with start("serve", "--port", 0, "--linger", 0, *words, "--no-page", stdout=None) as process:
        assert process.stderr
        try:
            said = next(line for line in process.stderr if "opening" not in line)
            found = re.search(r" at (http://\S+)$", said)
            yield Running(process, said, found[1] if found else "")
        finally:
            process.kill()


def refused(*words: str) -> Result:
    result = redraft("serve", *words)
    assert result.exit_code == 2
    return result


@pytest.mark.slow
def test_a_model_has_two_names_and_a_signal_ends_the_server() -> None:
    with running("--model", "script:rain.jsonl", "--check", "words<=5") as server:
        assert server.said.startswith("redraft: serving rain and rain-revise at http://127.0.0.1:")
        revised = server.ask("rain-revise")["choices"][0]["message"]
        plain = server.ask("rain")["choices"][0]["message"]
        status, log = server.end(signal.SIGINT)
    assert (revised["content"], plain["content"]) == (SHORT, LONG)
    assert "reasoning_content" in revised
    assert "reasoning_content" not in plain
    assert status == 0
    *lines, stopped = log.splitlines()
    assert any(line.endswith(" stopping") for line in lines)  # maybe before the last request's line
    assert (len(lines), stopped) == (3, "redraft: stopped.")
    assert "status=200 model='rain-revise' stop=passed" in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_each_model_that_is_named_is_served_by_its_own_names() -> None:
    Path("snow.jsonl").write_text('"Snow."\n')
    rain, snow = ("--model", "script:rain.jsonl"), ("-m", "script:snow.jsonl")
    with running(*rain, *snow) as server:
        assert server.said.startswith("redraft: serving rain, rain-revise, snow and snow-revise at ")
        assert server.ask("snow")["choices"][0]["message"]["content"] == "Snow."
    assert "two models are called rain." in refused("--port", "0", *rain, *rain).stderr
    assert "--model can be given only once" in refused("--models", "models.yaml", *rain, *snow).stderr


@pytest.mark.slow
def test_a_second_signal_ends_what_is_under_way() -> None:
    Path("slow.jsonl").write_text('{"text": "Rain", "stall": 600}\n')
    body = {"model": "slow", "messages": [{"role": "user", "content": "Hi."}], "stream": True}
    with running("--model", "script:slow.jsonl", "--drain", "600") as server:
        with httpx.stream("POST", f"{server.url}/chat/completions", json=body, timeout=WAIT) as reply:
            lines = reply.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            while httpx.get(f"{server.url.removesuffix('/v1')}/ready").status_code == 200:
                pass
            server.process.send_signal(signal.SIGTERM)
            rest = "".join(lines)
        assert server.process.wait(WAIT) == 0
    assert '"finish_reason": "length"' in rest
    assert rest.endswith("[DONE]")


MODELS = """\
rain: {model: script:rain.jsonl, max-revisions: 0, server-fields: [guided_json]}
-short:
  check: [words<=5]
  budget-tokens: 2000
"""


@pytest.mark.slow
def test_models_of_a_file_share_their_engines_and_take_flags() -> None:
    Path("models.yaml").write_text(MODELS)
    with running("--models", "models.yaml", "--model", "script:rain.jsonl") as server:
        assert server.said.startswith("redraft: serving rain and -short at ")
        names = [model["id"] for model in httpx.get(f"{server.url}/models").json()["data"]]
        first, second = server.ask("rain"), server.ask("-short")
        asked = {"messages": [{"role": "user", "content": "Hi."}], "guided_json": {}}
        bodies = [{**asked, "model": name} for name in names]
        replies = [httpx.post(f"{server.url}/chat/completions", json=body) for body in bodies]
    assert [reply.status_code for reply in replies] == [200, 400]
    assert names == ["rain", "-short"]
    assert first["choices"][0]["message"]["content"] == LONG
    assert "reasoning_content" not in second["choices"][0]["message"]  # it is the second reply of one script


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "models.yaml has no models"),
        ("- rain", "models.yaml is a list, but should map names to settings."),
        ("rain: script:rain.jsonl", "'rain' should be a model's name, followed by keys"),
        ("5: {model: default}", "5 should be a model's name"),
        ("rain: {modle: default}", "models.yaml: rain: there is no option 'modle'"),
        ("rain: {}\nrain: {}", "'rain' appears twice"),
        ("rain: {server-fields: top_k}", "models.yaml: rain: server_fields is"),
        ("rain: {judge: default, check: ['judge[reasoning][8]:x']}", "'judge' is followed by '[8]:x'"),
        ("rain: {server-fields: [guided_json, messages]}", "'messages', which redraft does not pass on"),
        ("{", "models.yaml is not YAML"),
        ("b: {check: [wrds<3]}", "models.yaml: b: no check is called 'wrds'"),
        ("b: {about: Rain., model: no.gguf}", "models.yaml: b: there is no model file no.gguf"),
    ],
)
def test_a_wrong_file_of_models_is_refused_before_anything_is_loaded(text: str, said: str) -> None:
    Path("models.yaml").write_text(text)
    assert said in redraft("serve", "--models", "models.yaml").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "none.yaml"], "none.yaml cannot be read"),
        (["--models", "one.yaml"], "--model has no effect: each entry in one.yaml sets its own model."),
        (["script:rain.jsonl"], "Write: --model script:rain.jsonl"),
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines, but there are no keys"),  # noqa: S104
        (["--api-key-file", "none.txt"], "the keys in none.txt cannot be read"),
        (["--check", "word<=5"], "no check is called 'word'"),
        (["--temperature", "-1"], "--temperature is -1"),
        (["--max-seconds", "inf"], "budget.seconds is inf"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_loaded(words: list[str], said: str) -> None:
    Path("one.yaml").write_text("rain: {model: script:rain.jsonl}")
    assert said in refused("--model", "script:rain.jsonl", *words).stderr


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_server() -> None:
    Path("none.jsonl").touch()
    with running("--model", "script:none.jsonl") as server:
        log = server.process.communicate(timeout=WAIT)[1]
    assert server.process.returncode == 2
    assert "none.jsonl" in server.said
    assert "Traceback" not in log


@pytest.mark.model
def test_the_default_model_streams_and_revises(default_model: Path) -> None:
    words = ("--model", str(default_model), "--max-tokens", "24", "--seed", "1", "--ctx", "1024")
    words += ("--engine", "llamacpp")
    with running(*words, "--check", "words<=6", "--max-revisions", "1") as server:
        base = re.findall(r"serving (.*) and (.*) at", server.said)[0]
        with OpenAI(base_url=server.url, api_key="none") as client:
            stream = client.chat.completions.create(
                model=base[0], messages=[{"role": "user", "content": "Describe rain."}], stream=True
            )
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        revised = server.ask(base[1], redraft=True)
        long = server.ask(base[0], messages=[{"role": "user", "content": "rain " * 3000}])
        assert server.end()[0] == 0
    assert len([piece for piece in pieces if piece]) > 3
    assert revised["choices"][0]["message"]["content"]
    assert revised["usage"]["completion_tokens"] == revised["redraft"]["usage"]["completion_tokens"] > 0
    assert long["error"]["code"] == "context_length_exceeded"
    assert "maximum context length is 1024 tokens" in long["error"]["message"]


def test_errors_at_the_start_are_json_in_a_log_of_json() -> None:
    told = redraft("serve", "--model", "script:none.jsonl", "--log-json", "--port", "0")
    line = json.loads(told.stderr)
    assert (told.exit_code, line["level"]) == (3, "error")
    assert "none.jsonl" in line["message"]


@pytest.mark.slow
def test_what_is_noted_of_a_request() -> None:
    words = ("--model", "script:rain.jsonl", "--log-json")
    with running(*words) as server:
        first = json.loads(server.said)
        url = first["message"].rpartition(" ")[2]
        httpx.post(f"{url}/chat/completions", json={"model": "rain"}, headers={"x-request-id": "mine"})
        status, log = server.end()
    assert (status, first["level"]) == (0, "info")
    line, stopping, stopped = map(json.loads, log.splitlines())
    assert (stopping["message"], stopped["message"]) == ("stopping", "stopped.")
    assert (line["id"], line["status"], line["error"]) == ("mine", 400, "invalid_value")


def test_flags_that_do_not_revise_hold_for_both_names() -> None:
    words = ("--system", "Be brief.", "--max-tokens", "4", "--min-revisions", "1")
    with running("--model", "script:rain.jsonl", *words) as server:
        reply = server.ask("rain", redraft=True)
    assert (reply["choices"][0]["message"]["content"], len(reply["redraft"]["steps"])) == ("Rain", 1)
    assert reply["usage"]["prompt_tokens"] == len("Be brief.") + len("Describe rain.")
