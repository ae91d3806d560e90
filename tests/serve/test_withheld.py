"""Answers that fail the checks of a server are withheld: no client sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from redraft.engines.scripted import ScriptedEngine
from redraft.serve.log import LineFormatter
from tests.cli.test_serve import refused
from tests.serve.running import LONG, SHORT, served, short
from tests.serve.test_chat import TOOL
from tests.serve.test_log import logged

INSTEAD = "That is not for you."


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize(
    "more", [{}, {"stream": True}, {"redraft": True}, {"stream": True, "revision": {"max": 0}}]
)
@pytest.mark.parametrize("last", [LONG, SHORT])
def test_nothing_of_what_fails_reaches_a_client(path: str, more: dict[str, Any], last: str) -> None:
    passes = last == SHORT and "revision" not in more
    asked = {"messages": [{"role": "user", "content": "Hi."}]} if path[0] == "c" else {"input": "Hi."}
    engine = ScriptedEngine([LONG, f"<think>{LONG}</think>{last}", LONG])
    with served({"short": short(engine, max_revisions=1)}, withheld=INSTEAD) as server:
        reply = httpx.post(f"{server.url}/{path}", json={"model": "short", **asked, **more}, timeout=30)
    assert reply.status_code == 200
    assert "cold" not in reply.text
    assert (INSTEAD in reply.text, SHORT in reply.text) == (not passes, passes)
    assert ("content_filter" in reply.text) is not passes


def test_what_no_check_reads_is_not_to_be_had() -> None:
    with served({"short": short(ScriptedEngine([LONG]))}, withheld=INSTEAD) as server:
        for more in ({"tools": [TOOL]}, {"stop": ["cold"]}):
            assert "withholds" in server.post({"model": "short", **more}).text
        body = {"model": "short", "prompt": "Rain"}
        assert httpx.post(f"{server.url}/completions", json=body).json()["error"]["code"] == "unsupported"


def test_an_error_of_a_check_and_a_guarded_critic_tell_nothing() -> None:
    def crashes(answer: str) -> bool:
        raise ValueError(answer)

    with served(
        {"short": {"model": ScriptedEngine([LONG]), "checks": [crashes]}}, withheld=INSTEAD
    ) as server:
        crashed = server.post({"model": "short"})
        asked = server.post({"model": "short", "revision": {"critic": "short"}})
    assert (crashed.json()["error"]["code"], "cold" in crashed.text) == ("check_failed", False)
    assert asked.json()["error"]["param"] == "revision.critic"


def test_what_stands_has_no_fence_and_its_revisions_count() -> None:
    engine = ScriptedEngine(["cold", '```json\n{"rain": 1}\n```'])
    with served({"json": {"model": engine, "checks": ["json"]}}, withheld=INSTEAD) as server:
        reply = server.post({"model": "json", "redraft": True})
        figures = httpx.get(f"{server.root}/metrics").text
    assert (reply.json()["choices"][0]["message"]["content"], "cold" in reply.text) == ('{"rain": 1}', False)
    assert reply.json()["redraft"]["passed"] is True
    assert 'redraft_revisions_total{model="json"} 1.0' in figures


def test_thoughts_alone_are_withheld() -> None:
    engine = ScriptedEngine([f"<think>{LONG}</think>"] * 4)
    with served({"short": short(engine, drafts=2)}, withheld=INSTEAD) as server:
        assert "cold" not in server.post({"model": "short", "redraft": True, "max_tokens": 90}).text


def test_a_text_that_is_cut_before_it_fails_is_withheld() -> None:
    models = {"short": short(ScriptedEngine([LONG]), max_revisions=0)}
    with logged(LineFormatter()) as log, served(models, withheld=INSTEAD) as server:
        [choice] = server.post({"model": "short", "max_tokens": 7}).json()["choices"]
    assert " finish=content_filter " in log.getvalue()
    assert (choice["message"]["content"], choice["finish_reason"]) == (INSTEAD, "content_filter")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{withheld: Sorry.}", "needs a check"),
        ("{check: ['words<=5'], withheld: ' '}", "withheld is ' '"),
        ("{think-tags: 'yes'}", "think_tags is 'yes'"),
        ("{think-tag: true}", "Did you mean 'think_tags'?"),
    ],
)
def test_a_wrong_entry_is_refused(entry: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(f"rain: {entry}")
    assert said in refused("--models", str(tmp_path / "models.yaml")).stderr
