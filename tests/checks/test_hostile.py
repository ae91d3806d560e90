"""Answers that were made to take for ever. Every check ends, and says so where it gave up.

The bounds separate seconds of processor time from hours.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from redraft.chain import Prompt, selfee, thoughts
from redraft.checks.base import Outcome
from redraft.checks.judge import _read_score
from redraft.checks.output import from_type
from redraft.checks.parse import parse_check
from redraft.checks.pattern import late, search, within
from redraft.checks.structure import JsonSchema
from redraft.engines.remote.wire import CallPiece, EventParser, tool_calls
from redraft.engines.scripted import ScriptedEngine
from redraft.engines.steering.draft import LONG as LETTERS
from redraft.engines.steering.draft import segment_of
from redraft.errors import CheckError, CheckSyntaxError
from redraft.revision.api import revise
from redraft.revision.options import Budget

SLOW = 12.0
EVIL = "(a+)+$"
LONG = "a" * 5000 + "b"


def made(folder: Path, schema: object) -> JsonSchema:
    path = folder / "schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    return JsonSchema.of(str(path))


def say(check: Any, answer: object) -> Outcome:
    begun = time.process_time()
    try:
        said: Outcome = check.check(answer if isinstance(answer, str) else json.dumps(answer), Prompt())
        return said
    finally:
        assert time.process_time() - begun < SLOW


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": EVIL}, LONG),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"pattern": EVIL}}}, [LONG]),
        ({"patternProperties": {EVIL: True}}, {LONG: 1}),
        ({"patternProperties": {EVIL: True}, "additionalProperties": False}, {LONG: 1}),
        ({"propertyNames": {"pattern": EVIL}}, {LONG: 1}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": EVIL}, LONG),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "patternProperties": {EVIL: {}}}, {LONG: 1}),
    ],
)
def test_a_pattern_of_a_schema_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: object, value: object
) -> None:
    monkeypatch.setattr("redraft.checks.pattern.REGEX_SECONDS", 0.1)
    with pytest.raises(CheckError, match=r"schema\.json' was stopped on an answer of") as caught:
        say(made(tmp_path, schema), json.dumps(value))
    assert "(a+)+" in (caught.value.hint or "")


def test_a_budget_ends_a_chain_while_a_pattern_is_searched(tmp_path: Path) -> None:
    check = made(tmp_path, {"pattern": EVIL})
    engine = ScriptedEngine([json.dumps(LONG)])
    chain = revise("x", model=engine, checks=[check], budget=Budget(seconds=1), max_tokens=9000)
    assert chain.stop == "budget"


def test_patterns_of_a_schema_still_hold(tmp_path: Path) -> None:
    schema = {
        "properties": {"id": {"pattern": "^[0-9]{3}$"}},
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }
    check = made(tmp_path, schema)
    assert say(check, {"id": "123", "x-a": 1}).passed
    assert "does not match" in say(check, {"id": "12"}).message
    assert "$['x-a']: 'b' is not of type" in say(check, {"x-a": "b"}).message
    assert "'y' does not match any of the regexes" in say(check, {"y": 1}).message
    loose = made(tmp_path, {"properties": {"a": True}, "additionalProperties": {"type": "string"}})
    assert say(loose, {"a": 1, "b": "c"}).passed
    assert "$.b: 2 is not of type 'string'" in say(loose, {"b": 2}).message


@pytest.mark.parametrize("schema", [{"pattern": "("}, {"patternProperties": {"((a{1000}){1000}){9}": True}}])
def test_a_pattern_that_cannot_be_used_is_known_at_once(tmp_path: Path, schema: object) -> None:
    with pytest.raises(CheckSyntaxError, match=r"is not usable|is not a 'regex'"):
        made(tmp_path, schema)


def test_unevaluated_properties_beside_patterns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckSyntaxError, match="unevaluatedProperties") as caught:
        made(tmp_path, {"patternProperties": {EVIL: True}, "unevaluatedProperties": False})
    assert "additionalProperties" in (caught.value.hint or "")


def test_many_different_objects_are_compared_in_linear_time(tmp_path: Path) -> None:
    check = made(tmp_path, {"uniqueItems": True})
    many = [{"a": n} for n in range(20_000)]
    assert say(check, many).passed
    repeated = say(check, [*many, {"a": 7.0}])
    assert (repeated.passed, repeated.places) == (False, ("/20000",))
    assert "is repeated" in repeated.message
    assert say(check, [1, True, "1", [1], {"a": 1}, None, 0, False]).passed
    assert not say(check, [{"a": 1, "b": [1, {}]}, {"b": [1.0, {}], "a": 1}]).passed


def test_a_schema_that_takes_too_long_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    check = made(tmp_path, {"items": {"$ref": "#/$defs/d0"}, "$defs": {**twice, "d40": {"type": "integer"}}})
    monkeypatch.setattr("redraft.checks.schema.SCHEMA_SECONDS", 0.2)
    with pytest.raises(CheckError, match=r"it took longer than 0\.2 s"):
        say(check, [1])


def test_a_hundred_thousand_faults_are_not_all_described(tmp_path: Path) -> None:
    check = made(tmp_path, {"items": {"anyOf": [{"type": "string"}, {"type": "object"}]}})
    assert say(check, [1] * 100_000).message.endswith("; and more than 97 more.")


def test_nothing_is_fetched_and_no_format_is_checked(tmp_path: Path) -> None:
    assert say(made(tmp_path, {"format": "email", "contentEncoding": "base64"}), '"no address"').passed


@pytest.mark.parametrize("value", ["1e400", "1e-400", "9" * 4000, "-1e308", "0.1", "1" + "0" * 308])
def test_huge_numbers_crash_no_schema(tmp_path: Path, value: str) -> None:
    schema = {"multipleOf": 0.01, "minimum": -5, "enum": [1], "type": "integer"}
    assert not say(made(tmp_path, schema), value).passed


HOSTILE = {
    "spaces": "a" + " " * 60_000 + "b", "stops": "." * 60_000, "stops apart": ". " * 30_000,
    "flags": "\U0001f1e6" * 30_000, "marks": "e" + "\u0301" * 60_000, "digits": "9" * 60_000,
    "commas": "123," * 15_000, "exponents": "1e9999 " * 9_000, "signs": "-$" * 30_000,
    "brackets": "[" * 60_000, "fences": "```json\n" * 8_000, "names": "a-1" * 20_000,
    "underscores": "_" * 60_000 + "a", "lines": "\r\n" * 30_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_every_check_of_text_ends(name: str) -> None:
    counts = ["words<=50", "sentences<=3", "characters<=280", "paragraphs==2"]
    for form in [*counts, "contains:b", "lacks:a b", "starts:a", "ends:a b", "json", "number=3"]:
        say(parse_check(form), HOSTILE[name])


@pytest.mark.parametrize("last", ["!" * 200_000, "_*" * 100_000, "*" * 100_000 + "score" + "*" * 100_000])
def test_the_last_line_of_a_judge_is_read_in_linear_time(last: str) -> None:
    begun = time.process_time()
    with pytest.raises(CheckError, match="has no score"):
        _read_score(f"Good.\n{last}", "judge:x")
    assert time.process_time() - begun < SLOW


OWLS = "Owls fly. " * 4_000
LOOPS = {
    "thoughts": lambda: [*map(thoughts.Splitter().add, "\n" * 100_000)],
    "headings": lambda: selfee.parse("### Instruction:\n" + "### Answer:\n" * 10_000 + "### Revision 1:"),
    "events": lambda: [*map(EventParser().feed, [b"data: 12345"] * 30_000)],
    "calls": lambda: tool_calls(CallPiece(0, "", "f", said) for said in ['{"a": "', *["word"] * 20_000]),
    "letters": lambda: LETTERS.search("abcdefghijklmn" + "-" * 30_000),
    "sentences": lambda: [segment_of(OWLS, at, at + 5) for at in range(0, len(OWLS), 10)],
}


@pytest.mark.parametrize("work", LOOPS.values(), ids=LOOPS)
def test_what_a_model_in_a_loop_or_a_hostile_server_writes_is_read_at_once(work: Callable[[], Any]) -> None:
    begun = time.process_time()
    work()
    assert time.process_time() - begun < 5


def test_models_with_patterns_of_the_usual_engine_are_fast() -> None:
    class Usual(BaseModel):
        code: Annotated[str, Field(pattern=EVIL)]

    assert not say(from_type(Usual), {"code": "a" * 100_000 + "b"}).passed


# The limits count the processor time of the thread that works on a pattern or schema.


@contextmanager
def busy(threads: int) -> Iterator[None]:
    """Other threads that keep the processor busy: a hash of a large text lets go of the interpreter."""
    over, text = threading.Event(), bytes(1 << 20)

    def work() -> None:
        while not over.is_set():
            hashlib.sha256(text).digest()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join()


def test_a_search_has_its_time_whatever_other_threads_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.checks.pattern.REGEX_SECONDS", 0.05)
    begun = time.thread_time()
    with busy(3), pytest.raises(TimeoutError):
        search("(a|aa)+$", "a" * 5000 + "b")
    assert time.thread_time() - begun >= 0.05


def test_a_schema_has_its_time_however_long_it_waits_for_the_processor() -> None:
    with within(0.05):
        time.sleep(0.1)
        assert not late()
        begun = time.thread_time()
        while time.thread_time() - begun < 0.06:
            pass
        assert late() == "it took longer than 0.05 s"
