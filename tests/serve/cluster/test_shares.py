"""Shares without Ray: what a process of it does, how many there are, and what is refused before it starts."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from redraft import answer_file
from redraft.errors import OutputError, UsageError
from redraft.serve.cluster.connect import ClusterError
from redraft.serve.cluster.shares import ClusterWork, ShareActor, _count, _marked, _needs, _room
from tests.cli.verbs import lines, redraft, refused, script

ANSWER = "redraft.revision.runs.answers:aanswer_file"
OUT = Path("out.jsonl")


def work(**options: Any) -> ClusterWork:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(9)))
    model = script("A gull over the grey sea.")
    return ClusterWork.of(
        ANSWER, [Path("prompts.txt"), str(OUT)], {"model": model, "max_revisions": 0, **options}
    )


def made(actor: ShareActor, share: str) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(asyncio.run(actor.make(share, "{}")))
    return reply


def test_a_process_makes_shares_as_the_flag_does() -> None:
    actor = ShareActor(work().to_json())
    assert json.loads(asyncio.run(actor.hello()))["lacks"] == ""
    counts = [made(actor, f"{index}/2") for index in range(2)]
    assert sum(each["done"] for each in counts) == 9
    by_flag = answer_file(
        "prompts.txt", "flag.jsonl", model="script:script.jsonl", max_revisions=0, shard="0/2"
    )
    assert [each["id"] for each in lines("out-00000-of-00002.jsonl")] == [
        each["id"] for each in lines(by_flag.path)
    ]
    assert json.loads(asyncio.run(actor.progress()))["done"] == counts[1]["done"]


def test_a_process_leaves_out_what_the_user_left_out() -> None:
    told = work(tell_checks=False, threads=None).options
    assert told["tell_checks"] is False
    assert "threads" not in told


def test_a_file_that_a_machine_cannot_read(tmp_path: Path) -> None:
    given = work()
    Path("prompts.txt").unlink()
    assert json.loads(asyncio.run(ShareActor(given.to_json()).hello()))["lacks"] == "prompts.txt"


def test_two_runs_of_a_share_at_once() -> None:
    actor = ShareActor(work().to_json())
    made(actor, "0/2")
    with Path("out-00000-of-00002.jsonl").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        said = made(actor, "0/2")
    assert said["in_use"]
    assert "is being written by another redraft" in said["message"]
    assert said["status"] == 2


def test_shares_keep_their_number() -> None:
    assert _count(OUT, 2, pytest.fail) == 8  # four for each process
    made(ShareActor(work().to_json()), "2/3")
    assert _count(OUT, 50, pytest.fail) == 3


def test_shares_of_a_name_with_brackets() -> None:
    Path("out[1]-00002-of-00003.jsonl").touch()
    assert _count(Path("out[1].jsonl"), 50, pytest.fail) == 3


@pytest.mark.parametrize(("place", "said"), [("none", "mkdir -p none"), ("prompts.txt", "Name another")])
def test_a_place_that_cannot_be_written_to(place: str, said: str) -> None:
    with (
        pytest.raises(UsageError, match=f"cannot write to {place}") as refusal,
        _marked(work(), Path(place, OUT)),
    ):
        pass
    assert said in (refusal.value.hint or "")


def test_shares_of_several_numbers_are_merged_first() -> None:
    actor, said = ShareActor(work().to_json()), list[str]()
    ids = {each["id"] for share in ("0/2", "1/3") if made(actor, share) for each in lines(_part(share))}
    assert _count(OUT, 1, said.append) == 4
    assert said == ["earlier runs made 2 and 3 shares, which are merged first."]
    assert {each["id"] for each in lines(OUT)} == ids


def test_parts_of_another_job() -> None:
    made(ShareActor(work().to_json()), "0/2")
    made(ShareActor(work(temperature=0.1).to_json()), "0/3")
    with pytest.raises(OutputError, match=r"temperature"):
        _count(OUT, 1, print)


def _part(share: str) -> str:
    index, count = map(int, share.split("/"))
    return f"out-{index:05}-of-{count:05}.jsonl"


def node(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "Resources": resources}


@pytest.mark.parametrize(
    ("options", "nodes", "needs", "room"),
    [
        ({"model": "http://127.0.0.1:9/v1#m"}, [node(CPU=4), node(CPU=2)], {"num_cpus": 1}, 6),
        ({}, [node(CPU=4), node(CPU=8)], {"num_cpus": 4}, 3),
        ({}, [node(), node(CPU=0.0), node(CPU=8)], {"num_cpus": 8}, 1),
        ({"threads": 2}, [node(CPU=4), node(CPU=8)], {"num_cpus": 2}, 6),
        ({}, [node(CPU=8, GPU=2), node(CPU=8)], {"num_cpus": 1, "num_gpus": 1}, 2),
        ({"model": ["script:x", "default"]}, [node(CPU=2)], {"num_cpus": 2}, 1),
    ],
)
def test_what_a_process_takes(
    options: dict[str, Any], nodes: list[dict[str, Any]], needs: dict[str, float], room: int
) -> None:
    assert _needs(options, nodes) == needs
    assert _room(nodes, needs) == room


def test_a_model_that_fits_no_machine() -> None:
    with pytest.raises(ClusterError, match="no machine of the cluster has 9 CPU"):
        _room([node(CPU=4), node(CPU=8)], {"num_cpus": 9})


@pytest.mark.parametrize("flag", ["--shard=0/2", "--cache=c.db", "--batch"])
def test_flags_of_one_process(flag: str) -> None:
    work()
    done = redraft("answer", "prompts.txt", "-o", OUT, "-m", "script:script.jsonl", "--ray", flag)
    refused(done, f"--ray and {flag.partition('=')[0]} cannot be combined.")


def test_actors_are_for_ray() -> None:
    work()
    refused(redraft("answer", "prompts.txt", "-o", OUT, "--actors", 2), "--actors was given without --ray.")


def test_without_ray_the_verb_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    work()
    monkeypatch.setitem(sys.modules, "ray", None)
    for words in (["--ray", "prompts.txt", "-o", OUT], ["prompts.txt", "-o", OUT, "--ray"]):
        done = redraft("answer", "-m", "script:script.jsonl", *words)
        refused(done, "--ray needs the extra 'cluster', which is not installed.")
    assert not OUT.exists()
