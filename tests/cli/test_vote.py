from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

pytest.importorskip("scipy")
pytest.importorskip("starlette")

from redraft.chain.read.records import raw_records
from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.serve.page import mount
from redraft.serve.page.mount import Booth
from tests.cli.verbs import redraft, refused, shown, start, write
from tests.evaluation.made import answer

IDS = (1, 2, "drei", "四")
GIVEN = ("new.jsonl", "old.jsonl", "--questions", "questions.jsonl", "-o", "votes.jsonl")


@pytest.fixture(autouse=True)
def _answers(_folder: None) -> None:
    asked = [{"question_id": id_, "text": f"Warum {id_}? 🌳", "category": "x"} for id_ in IDS]
    write("questions.jsonl", asked)
    for model, text in (("new", "Neu: Wärme 🌳"), ("old", "<b>古い</b>")):
        write(f"{model}.jsonl", [answer(model, id_, f"{text} {id_}") for id_ in IDS])


class Visit:
    def __init__(self) -> None:
        self.booths: list[Booth] = []
        self.does: Callable[[Booth], object] = lambda _: None

    def run(self, booth: Booth, _port: int, _say: object) -> None:
        self.booths.append(booth)
        self.does(booth)

    def __call__(self, keys: str, *, voter: str = "zoë", given: Sequence[str] = GIVEN) -> Result:
        def votes(booth: Booth) -> None:
            for key in keys:
                booth.act(voter, key, booth.act(voter, "show", "", "")["pair"]["id"], "")

        self.does = votes
        return redraft("vote", *given)


@pytest.fixture
def vote(monkeypatch: pytest.MonkeyPatch) -> Visit:
    visit = Visit()
    monkeypatch.setattr(mount, "run_booth", visit.run)
    return visit


def votes() -> list[Review]:
    return [review for _, review in read_reviews(raw_records(Path("votes.jsonl")))]


def test_votes_are_reviews_and_the_command_says_how_to_see_the_report(vote: Visit) -> None:
    assert "no vote yet" in vote("").stderr
    result = vote("1=21")
    assert (result.exit_code, result.stdout) == (0, ""), "a report would tell which model is which"
    assert "votes.jsonl has 4 votes." in result.stderr
    command = "redraft report votes.jsonl --answers new.jsonl --answers old.jsonl --questions questions.jsonl"
    assert command in result.stderr
    made, found = votes(), shown(redraft(*command.split()[1:]))
    assert {each.model_1 for each in made} == {"new", "old"}, "sides are swapped"
    assert found[0] == "new against old: 4 questions, 4 reviews in an order drawn at random; 95 % intervals"
    counts = Counter(each.verdict() * (1 if each.model_1 == "new" else -1) for each in made)
    tally = f"{counts[1]} won, {counts[0]} tied, {counts[-1]} lost"
    assert any(line.startswith("win rate") and line.endswith(tally) for line in found)
    assert "shown first 2 won, 1 tied, 1 lost" in found


def test_who_has_pairs_left_is_said_and_the_same_command_goes_on(vote: Visit) -> None:
    vote("11", voter="ali")
    assert "not all pairs are judged: ali 2 of 4. Run the same command to resume." in vote("12=1").stderr
    assert "votes.jsonl has 8 votes." in vote("1=", voter="ali").stderr
    assert len({(each.judge, each.question_id) for each in votes()}) == 8


def test_the_page_asks_for_a_name_and_keeps_one_that_is_given(vote: Visit) -> None:
    given = ["new.jsonl", "old.jsonl", "-o", "votes.jsonl"]
    assert vote("", given=given).exit_code == 2, "nothing says what was asked"
    given += ["--questions", "questions.jsonl"]
    vote("", given=given)
    vote("", given=[*given, "--voter", " Zoe\u0308 "])
    assert [(each.voter, each.known) for each in vote.booths] == [("", False), ("Zoë", True)]


# What is refused.


def test_bad_options_are_refused(vote: Visit) -> None:
    for words, why in (
        (["new.jsonl", "-o", "v.jsonl"], "a vote compares two files of answers, not 1"),
        (["new.jsonl", "new.jsonl", "-o", "v.jsonl"], "is given twice"),
        (["new.jsonl", "-", "-o", "v.jsonl"], "files, not '-'"),
        (["new.jsonl", "old.jsonl", "-o", "-"], "files, not '-'"),
        (["new.jsonl", "old.jsonl", "-o", "old.jsonl"], "would replace the input old.jsonl"),
        (["new.jsonl", "old.jsonl", "-o", "v.jsonl.gz"], "named like a compressed file"),
        (["new.jsonl", "old.jsonl", "-o", "no/v.jsonl", "--questions", "questions.jsonl"], "mkdir -p no"),
        (
            ["new.jsonl", "old.jsonl", "-o", "v.jsonl", "--questions", "questions.jsonl", "--voter", " "],
            "not a valid voter's name",
        ),
    ):
        refused(vote("", given=words), why)
    assert vote.booths == []


# On the page.


@contextmanager
def page(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with start("vote", *GIVEN, *words) as process:
        try:
            assert process.stderr
            found = re.match(
                r"redraft: vote at (http://127\.0\.0\.1:\d+/#/vote/[\w-]{20,})\n", process.stderr.readline()
            )
            assert found
            yield process, found[1]
        finally:
            process.kill()


def act(client: httpx.Client, do: str, item_id: str = "") -> dict[str, Any]:
    reply = client.post("page/booth", json={"voter": "zoë", "do": do, "id": item_id})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.slow
def test_the_page_runs_until_ctrl_c() -> None:
    with page() as (process, url):
        root, _, key = url.partition("#/vote/")
        with httpx.Client(base_url=root, timeout=60) as client:
            client.post("login", json={"key": key})
            state = act(client, "show")
            while state["pair"]:
                state = act(client, "1", state["pair"]["id"])
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "votes.jsonl has 4 votes." in said
    assert key not in shown + said
