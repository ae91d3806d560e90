"""Clean a record; the verbs of data as functions: what they return, and what they tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.chain.read.records import RawRecord
from redraft.data.clean import clean_chain
from redraft.data.clean_rules import USUAL, RuleSettings
from redraft.data.output import Drop
from redraft.errors import MissingExtra, OutputError, UsageError
from tests.cli.verbs import write


def clean(record: Any) -> tuple[bytes, bool] | Drop:
    chain = RawRecord("a:7", "a", 6, json.dumps(record).encode()).chain()
    return clean_chain(chain, "a:7", names=USUAL.rules, settings=RuleSettings())


def talk(*values: str) -> dict[str, Any]:
    roles = ("human", "gpt")
    return {"id": "x", "conversations": [{"from": roles[i % 2], "value": v} for i, v in enumerate(values)]}


def test_a_dropped_record_is_kept_as_it_was() -> None:
    drop = clean(talk("What\x00?", "<p> </p>"))  # empty after its repair
    assert isinstance(drop, Drop)
    assert (drop.rule, drop.where, drop.id) == ("empty", "a:7", "a/x")
    assert drop.record["prompt"]["instruction"] == "What\x00?"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    said = ["Name a river, please.", "Name a river, please!", "Hm", "Name a lake, please."]
    return write(tmp_path / "in.jsonl", ({"instruction": text, "output": "Why?"} for text in said))


def test_clean_returns_what_it_came_to_and_prints_what_the_command_prints(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = source.with_name("out.jsonl")
    result = redraft.clean(source, out, rules="answered,short", dropped=source.with_name("gone.jsonl"))
    assert (result.path, result.kept, dict(result.dropped), result.exit_status) == (out, 3, {"short": 1}, 0)
    assert capsys.readouterr().err == "redraft: 3 kept, 1 dropped\n  short          1\n"
    assert json.loads(source.with_name("gone.jsonl").read_text())["rule"] == "short"
    assert json.loads(Path(f"{out}.run.json").read_text())["command"] == "data clean"
    with pytest.raises(OutputError, match="exists") as caught:
        redraft.clean(source, out)
    assert caught.value.hint == "Name another (-o), or replace it (--force; in Python, force=True)."
    assert redraft.clean(source, out, rules=["roles"], force=True, quiet=True).kept == 4
    redraft.clean(source, out, rules="usual,answered", force=True, quiet=True)
    rules = json.loads(Path(f"{out}.run.json").read_text())["config"]["rules"]
    assert rules == ["characters", "roles", "html", "residue", "answered", "empty", "short"]


def test_languages_need_an_extra(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.checks.language.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="the check 'language' needs the extra 'data'"):
        redraft.clean(source, source.with_name("out.jsonl"), languages="en")


def test_rules_that_leave_nothing_say_so(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = redraft.clean(source, source.with_name("out.jsonl"), rules=["answer-question"], quiet=True)
    assert (result.kept, result.exit_status) == (0, 1)
    assert "no record is left" not in capsys.readouterr().err, "a line on the rule says it"


@pytest.mark.parametrize(
    ("verb", "options", "said", "allowed"),
    [
        (redraft.clean, {"like": "foo"}, "like is 'foo'", "one of: None, fastchat, selfee"),
        (redraft.clean, {"workers": 0}, "workers is 0", "above 0"),
        (redraft.clean, {"wokers": 1}, "there is no option 'wokers'", "Did you mean 'workers'?"),
        (redraft.clean, {"language": "en"}, "there is no option 'language'", "Did you mean 'languages'?"),
        (redraft.dedupe, {"bye": "query"}, "there is no option 'bye'", "Did you mean 'by'?"),
        (redraft.dedupe, {"by": "foo"}, "by is 'foo'", "one of: exact, query, rouge, minhash"),
        (redraft.dedupe, {"by": ["exact"]}, "by is a list", "one of: exact"),
        (redraft.dedupe, {"by": "rouge", "threshold": 0}, "threshold is 0", "from 0.1 to 1"),
    ],
)
def test_a_wrong_option_is_told_with_what_is_allowed(
    verb: Any, options: dict[str, Any], said: str, allowed: str, source: Path
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        verb(source, source.with_name("out.jsonl"), **options)
    assert allowed in (caught.value.hint or "")


def test_one_list_or_file_may_be_given_alone(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.with_name("out.jsonl")
    assert redraft.clean(source, out, blocked="fastchat", quiet=True).kept == 3
    assert redraft.dedupe(source, out, against=str(source), force=True, quiet=True).kept == 0
    assert capsys.readouterr().err == "redraft: no record is left.\n"
