from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from redraft.engines.scripted import ScriptedEngine
from redraft.revision.options import check_options
from redraft.revision.promise import Promise, Watch
from redraft.serve.keys import Keys
from redraft.serve.models import Model
from redraft.serve.reader import ServerLimits
from redraft.serve.requests import chain_options
from tests.revision.test_promise import answer
from tests.serve.running import LONG, SHORT, Server, served, short


def figures(server: Server, **more: Any) -> dict[tuple[str, ...], float]:
    reply = httpx.get(f"{server.root}/metrics", **more)
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(reply.text)
        for sample in family.samples
    }


def test_requests_tokens_and_chains_are_counted_for_each_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("the-long-key-of-alice name=alice\n")
    key = {"headers": {"Authorization": "Bearer the-long-key-of-alice"}}
    with served(keys=Keys.read(tmp_path / "keys")) as server:
        server.post({"model": "short"}, **key)
        server.post({"model": "short", "stream": True}, **key)
        server.post({"model": "long"}, **key)
        server.post()
        for path in ("health", "ready", "metrics"):
            httpx.get(f"{server.root}/{path}")
        found = figures(server, **key)
    assert found["redraft_requests_total", "alice", "200"] == 2
    assert found["redraft_requests_total", "alice", "404"] == 1
    assert found["redraft_requests_total", "", "401"] == 1  # of the post: probes are not counted
    assert found["redraft_chains_total", "short", "passed"] == 2
    assert found["redraft_revisions_total", "short"] == 2
    assert found["redraft_tokens_total", "alice", "completion", "short"] == 2 * len(LONG + SHORT)
    assert found["redraft_request_seconds_count", "short"] == 2
    assert found[("redraft_requests_inside",)] == 0


def test_a_clients_text_is_no_label() -> None:
    with served() as server:
        server.post({"model": "SECRET"})
        httpx.get(f"{server.root}/SECRET")
        assert "SECRET" not in httpx.get(f"{server.root}/metrics").text


def test_a_broken_promise_is_a_figure_a_line_and_one_answer_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = Watch(Promise(right=0.9, checks=["words"], drift="one"), "way.yaml")
    own = short(ScriptedEngine([LONG]), mode="best-of", drafts=4)
    with served({"way": own}, watch=watch, withheld="No.") as server:

        def asked(**more: Any) -> int:
            told = server.post({"model": "way", "redraft": True, **more}).json()
            return int(told["usage"]["completion_tokens"])

        assert figures(server)["redraft_promise_answers", "way"] == 0
        assert {asked(max_tokens=3) for _ in range(5)} == {12}
        assert asked(revision={"checks": ["words<=1"]}) == 4 * len(LONG), "no client breaks a promise"
        assert figures(server)["redraft_promise_answers", "way"] == 0
        assert [asked() // len(LONG) for _ in range(5)] == [4, 4, 4, 1, 1]
        found = figures(server)
    assert (found["redraft_promise_answers", "way"], found["redraft_promise_broken", "way"]) == (3, 1)
    other, line = [record.message for record in caplog.records if "promise" in record.message]
    assert other == "the promise of way.yaml does not cover answers with another max_tokens."
    said = "way.yaml promises that at least 90.0 % of answers pass, but 0 of 3 do. From now on"
    assert line.startswith(said)


def test_a_promise_that_breaks_steps_back_to_one_answer_unless_a_request_says_otherwise() -> None:
    watch = Watch(Promise(right=0.9, checks=["words"], drift="one"), "way.yaml")
    own = {"model": ScriptedEngine(["x"]), "mode": "best-of", "drafts": 4, "checks": ["words<=9"]}
    model = Model("model", check_options(own), watch=watch)
    assert chain_options(model, ServerLimits(), {}, None).most_drafts == 4
    for _ in range(20):
        watch.add(answer(passed=False))
    assert chain_options(model, ServerLimits(), {}, None).most_drafts == 1
    assert model.record["redraft"]["drafts"] == 1
    assert chain_options(model, ServerLimits(), {"drafts": 2}, None).most_drafts == 2
