"""A run: the same output however it is stopped, for any number of calls at once. Nothing is paid twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from redraft.chain import read_jsonl
from redraft.chain.write import to_alpaca
from redraft.data.generate.instructions.flow import DRY
from redraft.data.generate.instructions.run import Generated, generate_instructions
from redraft.data.generate.options import Way
from redraft.engines.base import Delta, Message, Sampling
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EngineError, OutputError, ServerError, UsageError
from redraft.jobs.limits import STOPPED
from tests.cli.verbs import lines, write
from tests.data.generate.instructions.stand_in import teach, teacher
from tests.engines.able import Able

WAYS: tuple[Way, ...] = ("alpaca", "self-instruct")


class Uneven(ScriptedEngine):
    fails: dict[int, EngineError]
    begun = 0

    async def chat(  # type: ignore[override]
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        number = self.begun
        self.begun += 1
        await asyncio.sleep(Random(str(messages)).random() * 0.02)
        if number in self.fails:
            raise self.fails[number]
        async for delta in super().chat(messages, sampling, stop):
            yield delta


def uneven(**fails: EngineError) -> Uneven:
    engine = Uneven(lambda asked: teach(asked), chunk=200)  # type: ignore[arg-type]
    engine.fails = {int(name[1:]): error for name, error in fails.items()}
    return engine


@pytest.fixture(autouse=True)
def _short_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("pool", "flow"):
        monkeypatch.setattr(f"redraft.data.generate.instructions.{room}.LAG", 2)


def made(out: Path, engine: Any = None, **more: Any) -> Generated:
    return generate_instructions(out, model=engine or teacher(), quiet=True, **{"count": 20, **more})


def files(out: Path) -> tuple[str, list[Any]]:
    """The output, and its rejects in the order of requests: those of one that kept nothing are made again."""
    rejects = lines(out.with_name(out.name + ".rejected.jsonl"))
    return out.read_text(), sorted(rejects, key=lambda each: (each["request"], each["id"]))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_is_a_training_set(tmp_path: Path, way: Way) -> None:
    result = made(tmp_path / "out.jsonl", way=way)
    chains = list(read_jsonl(result.out))
    assert result.kept == len({chain.prompt.instruction for chain in chains}) >= 20
    assert result.exit_status == 0
    assert len({chain.id for chain in chains}) == len(chains) == result.tasks
    for chain in chains:
        record = to_alpaca(chain)
        assert isinstance(record, dict)
        assert record["instruction"]
        assert record["output"]
        about = chain.meta["generated"]
        assert about["way"] == way
        assert ("is_classification" in about) == (way == "self-instruct")
    assert result.rejected.total() == len(files(result.out)[1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_number_of_calls_at_once_changes_nothing(tmp_path: Path, way: Way) -> None:
    one, many = uneven(), uneven()
    few, lots = (
        made(tmp_path / f"{n}.jsonl", e, way=way, parallel=n, count=25).out for n, e in [(1, one), (9, many)]
    )
    assert files(few) == files(lots)
    assert sorted(map(str, one.calls)) == sorted(
        map(str, many.calls)
    )  # and none that the count does not need


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_larger_count_goes_on_as_one_run_would_have(tmp_path: Path, way: Way) -> None:
    whole = made(tmp_path / "whole.jsonl", way=way, count=25).out
    out, engine = tmp_path / "parts.jsonl", teacher()
    for count in (5, 15, 25):
        made(out, engine, way=way, count=count, parallel=3)
    assert files(out) == files(whole)
    assert len(set(map(str, engine.calls))) == len(engine.calls) or way == "alpaca"


@pytest.mark.parametrize("way", WAYS)
def test_an_error_in_the_middle_costs_nothing_twice(tmp_path: Path, way: Way) -> None:
    whole, last = made(tmp_path / "whole.jsonl", way=way, count=20), teacher()
    out, calls = tmp_path / "out.jsonl", 0
    for place in (3, 5):
        engine = uneven(**{f"c{place}": ServerError("no credit", status=402)})
        with pytest.raises(ServerError):
            made(out, engine, way=way, count=20, parallel=2)
        calls += len(engine.calls)
    made(out, last, way=way, count=20, parallel=1)
    assert files(out) == files(whole.out)
    paid = whole.job.counts.added + 2 * 4  # the calls that were cut with the one that failed
    assert way == "self-instruct" or calls + len(last.calls) <= paid
    again = teacher()
    shutil.copy(f"{out}.journal.db", tmp_path / "copy.jsonl.journal.db")
    copy = made(tmp_path / "copy.jsonl", again, way=way, count=20, parallel=1)
    assert files(copy.out) == files(whole.out)
    assert copy.job.spent.replayed > len(again.calls)
    assert (again.calls, copy.job.spent.tokens) == ([], 0)


def test_a_reply_that_came_at_the_second_try_is_used_by_the_next_run(tmp_path: Path) -> None:
    broken = ServerError("the reply broke off", passing=True)
    first, second = uneven(c0=broken, c2=ServerError("no credit", status=402)), teacher()
    with pytest.raises(ServerError):
        made(tmp_path / "out.jsonl", first, way="self-instruct", parallel=1)
    assert len(first.calls) == 1
    made(tmp_path / "out.jsonl", second, way="self-instruct", parallel=1)
    assert first.calls[0] not in second.calls


@pytest.mark.slow
def test_a_request_that_failed_is_made_by_the_next_run(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    engine = uneven(c2=ServerError("out of luck", status=500))
    first = made(out, engine, way="self-instruct", count=12, parallel=1)
    assert (first.job.counts.failed, first.exit_status) == (1, 3)
    second = made(out, way="self-instruct", count=24, parallel=1)
    assert second.job.counts.failed == 0
    assert second.kept >= 24
    assert not Path(f"{out}.errors.jsonl").exists()
    numbers = [chain.meta["generated"]["request"] for chain in read_jsonl(out)]
    assert numbers != sorted(numbers)


def test_a_torn_reject_and_those_of_a_request_that_was_cut_are_made_again(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole.jsonl", count=20).out
    out = made(tmp_path / "out.jsonl", count=8).out
    with Path(f"{out}.rejected.jsonl").open("a") as file:
        file.write('{"rule": "short", "request": 9999, "number": 1, "record": {}}\n{"rule": "sho')
    with out.open("a") as file:
        file.write('{"version": 1, "id": "alp')
    made(out, count=20)
    assert files(out) == files(whole)


def test_a_dry_teacher_ends_the_run(tmp_path: Path) -> None:
    engine = ScriptedEngine(["Task 4\nInstruction: Name a river in Peru.\nInput: <noinput>\nOutput: Amazon"])
    result = made(tmp_path / "out.jsonl", engine, parallel=2)
    assert (result.kept, result.dry, result.exit_status) == (1, True, 3)
    assert DRY <= result.rejected["similar"] <= DRY + 4
    assert len(engine.calls) <= DRY + 5


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't do that.", "refusal"),
        ("the same words again " * 9, "repeats"),
        ("Here you are!", "format"),
        ("### Answer:\nHere.\n\n### Feedback 1:\nGood.", "format"),
        (
            ScriptedReply(
                "Task 4\nInstruction: Name a river.\nInput: x\nOutput: The Am", finish="max_tokens"
            ),
            "cut",
        ),
        (ScriptedReply("7. Name a river in", finish="max_tokens"), "cut"),
        (ScriptedReply("I will begin", finish="max_tokens"), "cut"),
    ],
)
def test_bad_replies_are_rejects_with_a_name(
    tmp_path: Path, reply: str | ScriptedReply, rule: str, way: Way
) -> None:
    result = made(tmp_path / "out.jsonl", ScriptedEngine([reply]), parallel=1, way=way)
    assert (set(result.rejected), result.exit_status) == ({rule}, 3)
    [first, *_] = files(result.out)[1]
    assert first["record"]


@pytest.mark.parametrize(
    ("instances", "rule"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't do that.", "refusal"),
        ("Example 1\nInput: Peru\nOutput: As an AI model, I cannot know.", "refusal"),
        ("the same words again " * 9, "repeats"),
        ("Example 1\nInput: Peru\nOutput: " + "Amazon, Ucayali, " * 9, "repeats"),
        ("The Amazon.", "format"),
        ("Example 1\nInput: Peru", "format"),
        ("Example 1\nInput: Peru\nOutput: Amazon\n### Feedback 1:\nNo revision is needed.", "markers"),
        ("Example 1\nInput: Peru\nOutput: <|im_start|>user", "markers"),
        (ScriptedReply("Example 1\nInput: Peru\nOutput: The Am", finish="max_tokens"), "cut"),
    ],
)
def test_bad_instances_are_rejects_with_a_name(
    tmp_path: Path, instances: str | ScriptedReply, rule: str
) -> None:
    def reply(asked: Any) -> str | ScriptedReply:
        if "Now write" in str(asked):
            return "7. Name a long river of a land."
        return "no" if str(asked[-1]["content"]).endswith("Classification:") else instances

    result = made(tmp_path / "out.jsonl", ScriptedEngine(reply), parallel=1, way="self-instruct")
    assert (result.kept, result.exit_status) == (0, 3)
    assert (set(result.rejected), result.rejected[rule]) == ({rule, "similar"}, 1)


def test_other_settings_are_refused_and_other_counts_are_not(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    made(out)
    for more in ({"language": "German"}, {"similar": 0.5}, {"way": "self-instruct"}, {"seed": 3}):
        with pytest.raises(OutputError, match="made differently"):
            made(out, **more)
    assert made(out, count=21, parallel=7).kept >= 21


def test_an_output_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text('{"instruction": "mine"}\n')
    with pytest.raises(OutputError):
        made(out)
    assert out.read_text() == '{"instruction": "mine"}\n'
    rejects = tmp_path / "new.jsonl.rejected.jsonl"
    rejects.write_text("my notes\n")
    with pytest.raises(OutputError, match="line 1 is something else"):
        made(tmp_path / "new.jsonl")
    assert rejects.read_text() == "my notes\n"


def test_a_model_without_a_chat_template_is_refused_before_a_call(tmp_path: Path) -> None:
    engine = Able(["x"], name="base-7b", about={"chats": False})
    with pytest.raises(UsageError, match="base-7b cannot be a teacher") as caught:
        made(tmp_path / "out.jsonl", engine)
    assert "chat template" in str(caught.value.hint)
    assert engine.calls == []


def test_seeds_without_outputs_are_for_self_instruct_alone(tmp_path: Path) -> None:
    records = [{"instruction": f"Name a {word}."} for word in ("river", "town")]
    seeds = write(tmp_path / "seeds.jsonl", records)
    engine = teacher()
    with pytest.raises(UsageError, match=r"0 of the 2 tasks in .* have an output") as caught:
        made(tmp_path / "out.jsonl", engine, seeds=str(seeds))
    assert "--way self-instruct" in str(caught.value.hint)
    assert engine.calls == []
    assert made(tmp_path / "si.jsonl", engine, seeds=str(seeds), way="self-instruct", count=3).kept >= 3


def test_the_output_cannot_be_its_own_seeds(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    made(out)
    with pytest.raises(UsageError, match="-o would replace the input"):
        made(out, seeds=str(out))
    assert made(tmp_path / "next.jsonl", seeds=str(out)).kept >= 20


def test_a_changed_wording_uses_no_reply_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made(tmp_path / "out.jsonl").out
    other = teacher()
    shutil.copy(f"{out}.journal.db", tmp_path / "b.jsonl.journal.db")
    made(tmp_path / "b.jsonl", other, topic="rivers")
    assert other.calls
    monkeypatch.setattr("redraft.data.generate.instructions.wording.digest", lambda: "another")
    with pytest.raises(OutputError, match="wording"):
        made(out, count=30)


def test_a_new_instruction_without_an_answer_is_not_paid_for_again_by_the_next_run(tmp_path: Path) -> None:
    listed = "\n".join(
        f"{n}. Name the {word} of Peru." for n, word in enumerate(["tallest peak", "oldest inn"], 7)
    )
    first = Uneven(lambda asked: "It depends." if "Classification:" in str(asked) else listed)
    first.fails = {5: ServerError("no credit", status=402)}
    with pytest.raises(ServerError):
        made(tmp_path / "out.jsonl", first, way="self-instruct", parallel=1)
    second = ScriptedEngine([listed])
    result = made(tmp_path / "out.jsonl", second, way="self-instruct", parallel=1)
    assert (result.rejected["kind"], set(result.rejected)) == (2, {"kind", "similar"})
    assert "Classification:" not in str(second.calls)


@pytest.mark.slow
def test_a_limit_stops_before_the_next_call_and_loses_no_reply(tmp_path: Path) -> None:
    out, asked = tmp_path / "out.jsonl", list[Any]()
    for _ in range(9):
        engine = teacher()
        assert made(out, engine, way="self-instruct", parallel=2, limit_tokens=1).exit_status == STOPPED
        assert 1 <= len(engine.calls) <= 2
        asked += engine.calls
    assert len(set(map(str, asked))) == len(asked)
    made(out, way="self-instruct")
    assert files(out) == files(made(tmp_path / "whole.jsonl", way="self-instruct").out)
