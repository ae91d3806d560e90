"""`--batch`: the same chains as live, in waves; nothing is paid twice, whatever happens to run or batch."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft.chain import Chain, read_jsonl
from redraft.engines.remote import batch
from redraft.jobs.progress import ItemProgress
from tests.cli import verbs
from tests.cli.verbs import lines, redraft, wait_until
from tests.engines.batch_server import FULL, Batch, BatchServer, Fault
from tests.engines.fake_server import Reply, error_reply, json_reply
from tests.engines.paid_server import said

PROMPTS = 5
CALLS = 3
"""A draft, feedback and a revision for each prompt."""
BATCH = ["--batch", "--pause", "0.01"]
ONE_STEP = ["--mode", "verified", "--max-revisions", "0", "-c", "words>=1"]
FILE, JOURNAL = Path("out.jsonl.batches.jsonl"), Path("out.jsonl.journal.db")


def says(body: dict[str, Any]) -> str:
    return said(body["messages"]).replace("gull ", "gull\u2028")


@pytest.fixture(autouse=True)
def _prompts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOMENT", 0.02)
    write_prompts(PROMPTS)


def write_prompts(count: int) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(count)))


def words(server: BatchServer, *more: str, out: str = "out.jsonl") -> list[str]:
    loop = [] if "-c" in more else ["--mode", "prompted", "--max-revisions", "1", "--context", "chain"]
    return ["answer", "prompts.txt", "-o", out, "-m", server.model, *loop, *more]


def answer(server: BatchServer, *more: str, out: str = "out.jsonl") -> Result:
    return redraft(*words(server, *BATCH, *more, out=out))


def chains(out: str = "out.jsonl") -> list[Chain]:
    return sorted(read_jsonl(Path(out)), key=lambda chain: chain.id)


def insist_on_all(server: BatchServer) -> None:
    assert [chain.id for chain in chains()] == [f"prompts/{n}" for n in range(PROMPTS)]
    for chain in chains():
        asked = f"Describe thing {chain.id.split('/')[1]}."
        assert [step.answer for step in chain.steps] == [
            f"Version {n} of a fine gull\u2028over the sea for {asked}" for n in (0, 2)
        ]
    assert (len(server.paid), set(server.paid.values())) == (PROMPTS * CALLS, {1})
    assert server.live == []


def finish(server: BatchServer) -> None:
    done = answer(server)
    assert done.exit_code == 0, done.output
    insist_on_all(server)


def told(chain: Chain) -> Any:
    record = json.loads(chain.to_json())
    for usage in (record["usage"], *(step["usage"] for step in record["steps"])):
        usage.pop("seconds")
    return record


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer(says) as server:
        yield server


# A run that nothing disturbs.


def test_a_run_in_batches_makes_the_chains_of_a_live_run(server: BatchServer) -> None:
    done = answer(server)
    assert done.exit_code == 0, done.output
    assert server.waves == [PROMPTS] * CALLS
    insist_on_all(server)
    live = redraft(*words(server, out="live.jsonl"))
    assert live.exit_code == 0, live.output
    assert list(map(told, chains())) == list(map(told, chains("live.jsonl")))


def test_live_runs_and_batches_find_each_others_replies(server: BatchServer) -> None:
    assert answer(server).exit_code == 0
    before = list(map(told, chains()))
    shutil.copy(JOURNAL, "live.jsonl.journal.db")
    assert redraft(*words(server, out="live.jsonl")).exit_code == 0
    assert (server.live, list(map(told, chains("live.jsonl")))) == ([], before)
    Path("out.jsonl").unlink()
    again = answer(server)
    assert f"{PROMPTS * CALLS} texts reused and not paid for again; this run paid for 0" in again.stdout
    assert len(server.waves) == CALLS
    assert redraft(*words(server, "--cache", "live.db", out="other.jsonl")).exit_code == 0
    assert answer(server, "--cache", "live.db", out="third.jsonl").exit_code == 0
    assert len(server.waves) == CALLS


def test_usage_and_limits_count_what_batches_cost(server: BatchServer) -> None:
    done = answer(server, "--limit-tokens", "20", "-j", "2", "--price", "1,2")
    assert (done.exit_code, "the limit of 20 tokens is reached" in done.output) == (4, True)
    assert [chain.usage.completion_tokens for chain in chains()] == [7 * CALLS] * 2
    assert chains()[0].usage.cost_usd == pytest.approx(CALLS * (10 + 2 * 7) / 1e6)
    assert server.waves == [2] * CALLS


def test_the_same_prompt_twice_gets_two_replies() -> None:
    prompts = verbs.write("prompts.jsonl", [{"id": name, "instruction": "Hi"} for name in "ab"])
    count = iter(range(99))
    with BatchServer(lambda _: f"Reply {next(count)}.") as server:
        job = ["answer", prompts, "-m", server.model, *ONE_STEP, *BATCH]
        assert redraft(*job, "-o", "out.jsonl").exit_code == 0
        assert (len({chain.answer for chain in chains()}), server.waves) == (2, [2])
        assert redraft(*job, "-o", "cached.jsonl", "--cache", "cache.db").exit_code == 0
        assert (len({chain.answer for chain in chains("cached.jsonl")}), server.waves) == (1, [2, 1])


def test_a_wave_is_cut_at_the_limits_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_REQUESTS", 4)
    with BatchServer(says, most=4) as server:
        assert (answer(server, *ONE_STEP).exit_code, sorted(server.waves)) == (0, [1, 4])
        monkeypatch.setattr(batch, "MOST_BYTES", 800)
        assert answer(server, *ONE_STEP, out="other.jsonl").exit_code == 0
        assert max(server.waves[2:]) < 4
    assert len(chains("other.jsonl")) == PROMPTS


def test_generated_chains_go_through_batches_too(server: BatchServer) -> None:
    loop = ["--mode", "prompted", "--max-revisions", "1"]
    done = redraft("generate", "chains", "prompts.txt", "-o", "out.jsonl", "-m", server.model, *BATCH, *loop)
    assert done.exit_code == 0, done.output
    assert (server.waves[0], server.live, set(server.paid.values())) == (PROMPTS, [], {1})
    assert len(chains()) == PROMPTS


# A run that is stopped.


def leave_pending(server: BatchServer) -> None:
    server.down = True
    done = answer(server, "--patience", "0", "--retries", "0")
    assert (done.exit_code, len(server.waves)) == (3, 1)
    assert f"0 of {PROMPTS} done; run the same command again to resume." in done.stderr
    assert not Path("out.jsonl.errors.jsonl").exists()
    server.down = False


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_loses_nothing_and_pays_nothing_twice(server: BatchServer) -> None:
    write_prompts(200)
    for _ in range(25):
        with verbs.start(*words(server, "--batch", "--pause", "0.05", "-j", "50")) as job:
            wait_until(lambda: FILE.exists())
            time.sleep(random.uniform(0, 1.5))
            job.kill()
            job.communicate()
    assert (answer(server).exit_code, len(chains())) == (0, 200)
    assert (len(server.paid), set(server.paid.values())) == (200 * CALLS, {1})


def test_replies_that_nobody_waits_for_yet_are_kept_in_the_journal(server: BatchServer) -> None:
    leave_pending(server)
    assert (answer(server, "-j", "2").exit_code, server.waves[0]) == (0, PROMPTS)
    assert set(server.waves[1:]) <= {1, 2}
    insist_on_all(server)


def test_a_limit_of_seconds_ends_the_waiting(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.held = 1
    with monkeypatch.context() as clock:
        clock.setattr(ItemProgress, "seconds", property(lambda _: 99.0 if server.looks > 2 else 1.0))
        done = answer(server, "--limit-seconds", "50")
    assert done.exit_code == 4
    assert "the limit of 50 s is reached in the middle of a batch." in done.stderr
    assert f"0 of {PROMPTS} done; run the same command again to resume" in done.stderr
    assert "under way at the server" in done.stderr
    server.held = 0
    finish(server)


def test_a_live_run_does_not_pay_for_what_a_batch_is_asked_for(server: BatchServer) -> None:
    leave_pending(server)
    live = redraft(*words(server))
    assert (live.exit_code, server.live) == (2, [])
    assert "is under way for out.jsonl, but --batch was not given" in live.stderr
    assert answer(server).exit_code == 0
    Path("out.jsonl").unlink()
    assert redraft(*words(server)).exit_code == 0
    insist_on_all(server)


@pytest.mark.parametrize("created", [True, False])
def test_a_process_that_died_while_it_created_a_batch(server: BatchServer, created: bool) -> None:
    leave_pending(server)
    head, *_ = FILE.read_text().splitlines(keepends=True)
    FILE.write_text(head + '{"file": ')
    if not created:
        server.batches.clear()
    for number in range(3):  # so that it is not on the first page of the list
        record = {"id": f"other_{number}", "input_file_id": "other", "created_at": int(time.time())}
        server.batches[f"other_{number}"] = Batch({**record, "status": "completed"}, [], Fault())
    finish(server)


# Batches that go wrong.


def test_a_batch_that_expires_each_time_fails_its_prompts() -> None:
    with BatchServer(says, *[Fault("expired", answered=n) for n in (4, 0, 0)]) as server:
        assert (answer(server, *ONE_STEP, "--retries", "2").exit_code, server.waves) == (3, [PROMPTS, 1, 1])
        (failure,) = lines("out.jsonl.errors.jsonl")
        assert "gave no reply in 3 batches: This request could not be executed" in failure["message"]
        assert "--parallel" in failure["hint"]
        assert answer(server, *ONE_STEP).exit_code == 0
        assert (len(chains()), set(server.paid.values())) == (PROMPTS, {1})


def some(status: int, message: str) -> Callable[[dict[str, Any]], tuple[int, str] | None]:
    return lambda body: (status, message) if "thing 3" in str(body) else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "again"),
    [
        (Fault("expired", answered=4), [1]),
        (Fault("cancelled", answered=4), [1]),
        (Fault(refused=some(500, "Internal error")), [1]),
        (Fault(lost=True), []),
    ],
    ids=["expired", "cancelled", "a line that fails for the moment", "created, and not heard of"],
)
def test_what_is_missing_of_a_batch_is_sent_again_and_nothing_else(fault: Fault, again: list[int]) -> None:
    with BatchServer(says, fault) as server:
        finish(server)
        assert server.waves == [PROMPTS, PROMPTS, PROMPTS, *again]


def test_a_prompt_that_is_refused_fails_alone() -> None:
    with BatchServer(says, Fault(refused=some(400, "This prompt is not allowed."))) as server:
        assert answer(server).exit_code == 3
        (failure,) = lines("out.jsonl.errors.jsonl")
        assert failure["id"] == "prompts/3"
        assert "refuses the request (400): This prompt is not allowed." in failure["message"]
        assert len(chains()) == PROMPTS - 1


def test_a_field_that_the_model_refuses_is_renamed_in_the_next_wave() -> None:
    def refused(body: dict[str, Any]) -> tuple[int, str] | None:
        old = "max_tokens" in body
        return (400, "Unsupported parameter: use 'max_completion_tokens' instead.") if old else None

    with BatchServer(says, *[Fault(refused=refused)] * 9) as server:
        assert (answer(server, "--max-tokens", "99").exit_code, server.waves) == (0, [PROMPTS] * (1 + CALLS))
        insist_on_all(server)


@pytest.mark.parametrize("code", ["invalid", "limit_of_a_field"])
def test_a_batch_that_fails_validation_says_why(code: str) -> None:
    reason = [{"code": code, "line": n, "message": "Not for batches."} for n in (1, 2)]
    with BatchServer(says, Fault(reason=reason)) as server:
        done = answer(server)
        assert done.exit_code == 3
        (name,) = server.batches
        assert f"refuses {name}: line 1: Not for batches.; line 2: Not for" in done.stderr
        assert "A refused batch costs nothing." in done.stderr
        assert not Path("out.jsonl.errors.jsonl").exists()
        finish(server)


def accepted(server: BatchServer) -> list[int]:
    taken = (each for each in server.batches.values() if each.record["status"] != "failed")
    return [len(each.lines) for each in taken]


def test_waves_shrink_until_they_fit(server: BatchServer, caplog: pytest.LogCaptureFixture) -> None:
    server.queue = 2
    done = answer(server)
    assert done.exit_code == 0, done.output
    assert (server.waves[:2], max(accepted(server))) == ([PROMPTS, PROMPTS // 2], 2)
    insist_on_all(server)
    assert "Enqueued token limit reached" in caplog.messages[0]
    assert caplog.messages[0].endswith("Sending at most 2 requests at a time.")


def test_a_wave_that_does_not_fit_waits(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_REQUESTS", 3)
    server.queue = 3
    assert answer(server, *ONE_STEP, "--pause", "0.15").exit_code == 0
    assert (server.waves[:2], accepted(server)[0]) == ([3, 2], 3)
    assert len(server.waves) > len(accepted(server))
    assert set(server.paid.values()) == {1}


@pytest.mark.slow
def test_waves_grow_again_when_there_is_room() -> None:
    write_prompts(40)
    with BatchServer(says, *[Fault(reason=[{"code": "token_limit_exceeded"}])] * 4) as server:
        assert answer(server, *ONE_STEP, "-j", "40").exit_code == 0
        taken = accepted(server)
        assert (taken[0], sum(taken)) == (2, 40)
        assert max(taken) > 4


def test_a_queue_without_room_for_one_request_ends_the_run() -> None:
    with BatchServer(
        says, *[Fault(reason=[{"code": "token_limit_exceeded", "message": FULL}])] * 3
    ) as server:
        done = answer(server)
        assert (done.exit_code, server.waves) == (3, [5, 2, 1])
        assert "Please try again once some in_progress batches have been completed." in done.stderr
        assert "Other batches of the account may have filled the queue" in done.stderr
        assert not Path("out.jsonl.errors.jsonl").exists()
        finish(server)


@pytest.mark.parametrize("route", ["POST /v1/files", "POST /v1/batches"])
def test_a_server_without_batches_says_what_to_do(server: BatchServer, route: str) -> None:
    server.on(route, json_reply({"detail": "Not Found"}, 404))
    done = answer(server)
    assert done.exit_code == 3
    assert f"{server.url} does not support batches" in done.stderr
    assert "Leave out --batch" in done.stderr
    live = redraft(*words(server))
    assert live.exit_code == 0, live.output


def test_a_batch_that_the_server_forgot_is_not_paid_again_unasked(server: BatchServer) -> None:
    leave_pending(server)
    (name,) = server.batches
    server.batches.clear()
    done = answer(server)
    assert done.exit_code == 3
    assert f"does not know /batches/{name} (404)" in done.stderr
    assert str(FILE) in done.stderr
    assert server.batches == {}


def test_a_result_that_breaks_off_is_read_again(server: BatchServer) -> None:
    whole, seen = server._content, []

    def cut(name: str) -> Reply:
        reply, first = whole(name), name not in seen
        seen.append(name)
        (content,) = reply.pieces
        assert isinstance(content, bytes)
        return Reply(200, reply.headers, [content[: len(content) // 2]], cut=True) if first else reply

    server._content = cut  # type: ignore[method-assign]
    assert (answer(server).exit_code, len(seen)) == (0, 2 * CALLS)
    insist_on_all(server)


def changed(server: BatchServer, change: Callable[[bytes], bytes]) -> None:
    whole = server._content

    def content(name: str) -> Reply:
        reply = whole(name)
        return Reply(200, reply.headers, [change(b"".join(map(bytes, reply.pieces)))])  # type: ignore[arg-type]

    server._content = content  # type: ignore[method-assign]


@pytest.mark.parametrize("response", ['"x"', '{"status_code": 200, "body": 7}'])
def test_a_line_that_is_no_reply_counts_as_none(server: BatchServer, response: str) -> None:
    bad, times = b'"response": ' + response.encode(), iter([1])

    def change(content: bytes) -> bytes:
        return (
            re.sub(rb'"response": {.*?}, "error": null', bad, content, count=1) if next(times, 0) else content
        )

    changed(server, change)
    assert (answer(server, *ONE_STEP).exit_code, server.waves) == (0, [PROMPTS, 1])
    assert len(chains()) == PROMPTS


def test_a_batch_without_a_status_that_can_be_read_is_an_error_of_the_server(server: BatchServer) -> None:
    look = server._look
    server._look = lambda name: json_reply({"id": name, "status": ["done"]})  # type: ignore[method-assign]
    done = answer(server)
    assert done.exit_code == 3
    assert "answered /batches/batch_" in done.stderr
    server._look = look  # type: ignore[method-assign]
    finish(server)


def test_a_result_that_stays_cut_off_loses_no_line_and_is_not_paid_again_unasked(server: BatchServer) -> None:
    changed(server, lambda content: content[:-40])
    done = answer(server, *ONE_STEP)
    assert (done.exit_code, server.waves) == (3, [PROMPTS])
    said = done.stderr.replace("\n  ", " ")
    assert f"line {PROMPTS} of /files/" in said
    assert "is cut off or damaged: '{" in said
    assert "The replies received so far are stored." in said
    assert f"remove the batch's lines from {FILE}" in done.stderr.replace("\n  ", " ")
    FILE.unlink()
    assert (answer(server, *ONE_STEP, "-j", "1").exit_code, server.waves) == (3, [PROMPTS, 1])


@pytest.mark.parametrize(
    "route",
    ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/batch_2"],
    ids=["upload", "create", "look"],
)
def test_a_busy_server_is_awaited(server: BatchServer, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.engines.retry.LONGEST_BACKOFF", 0.05)
    few = (500,) * 7 if route.startswith("GET") else (503, 429)
    real, left = server._next, [error_reply(status, "Not now") for status in few]

    def busy(request: Any) -> Reply:
        return left.pop() if left and f"{request.method} {request.path}" == route else real(request)

    server._next = busy  # type: ignore[method-assign]
    done = answer(server)
    assert (done.exit_code, left) == (0, []), done.output
    insist_on_all(server)


# What does not go together.


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-m", "script:none.jsonl"], "--batch is for servers"),
        (["--budget-seconds", "5"], "a batch may take a day"),
        (["--pause", "0"], "pause is 0.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(server: BatchServer, more: list[str], said: str) -> None:
    done = answer(server, *more)
    assert (done.exit_code, said in done.stderr, server.requests) == (2, True, [])


@pytest.mark.parametrize("text", ["[]\n", '{"file": "f", "batch": "b"}\n', '{"id": 1}\n'])
def test_a_file_of_batches_that_is_none_is_left_alone(server: BatchServer, text: str) -> None:
    FILE.write_text(text)
    done = answer(server)
    assert (done.exit_code, server.waves) == (2, [])
    assert "should list batches, but its line 1 is something else" in done.stderr
    assert FILE.read_text() == text
