"""`redraft generate chains` on servers that refuse and limit, by the account of the stand-in teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import read_jsonl
from redraft.cli import app
from tests.generate.teacher import Teacher, texts_in

PROMPTS, PARALLEL = 12, 4
FIRST, SECOND, THIRD = ("sk-first-secret", "sk-second-secret", "sk-third-secret")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDRAFT_CONFIG", "config.toml")
    Path("config.toml").touch()
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(PROMPTS)))
    return tmp_path


def give_keys(teacher: Teacher, *keys: str) -> None:
    Path("config.toml").write_text(f'[keys]\n"127.0.0.1:{teacher.port}" = {list(keys)}\n')
    Path("config.toml").chmod(0o600)


def generate(teacher: Teacher, *more: str) -> Result:
    words = ["generate", "chains", "prompts.txt", "-o", "out.jsonl", "-m", teacher.model, "--seed", "1"]
    return CliRunner().invoke(app, [*words, "-j", str(PARALLEL), "--max-revisions", "1", *more])


def made() -> int:
    return len(list(read_jsonl(Path("out.jsonl"))))


def test_without_a_key_the_run_ends_at_once_and_says_where_keys_go() -> None:
    with Teacher(keys={FIRST: None}) as teacher:
        result = generate(teacher)
        assert result.exit_code == 3
        assert "asks for a key (401)" in result.stderr
        assert "export REDRAFT_KEY_127_0_0_1_" in result.stderr
        assert made() == 0
        assert 1 <= teacher.account().calls.total() <= PARALLEL
        assert not Path("out.jsonl.errors.jsonl").exists()


def test_a_key_that_is_revoked_in_the_middle_is_dropped_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good_for: Mapping[str, int | None] = {FIRST: None, SECOND: 3, THIRD: None}
    with Teacher(keys=good_for) as teacher, caplog.at_level(logging.WARNING):
        give_keys(teacher, FIRST, SECOND, THIRD)
        assert generate(teacher).exit_code == 0
        account = teacher.account()
    assert (made(), account.twice) == (PROMPTS, [])
    assert 1 <= account.statuses["401"] <= PARALLEL
    assert [said for said in caplog.messages if "refuses key 2 of 3" in said] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_run_whose_only_key_is_revoked_goes_on_with_another_and_pays_nothing_twice() -> None:
    with Teacher(keys={FIRST: 10}) as teacher:
        give_keys(teacher, FIRST)
        result = generate(teacher)
        assert result.exit_code == 3
        assert "refuses the key from" in result.stderr
        assert FIRST not in result.output
        paid = teacher.account().whole
        assert paid.total() == len(texts_in(Path("out.jsonl.journal.db"))) == 10
        give_keys(teacher, SECOND)
        teacher.behave(keys={SECOND: None})
        assert generate(teacher).exit_code == 0
        assert not paid.keys() & teacher.account().whole.keys()
    assert made() == PROMPTS


def test_a_model_that_the_server_does_not_have_ends_the_run_with_its_first_calls() -> None:
    with Teacher() as teacher:
        result = generate(teacher, "-m", f"{teacher.url}#nobody")
        assert result.exit_code == 3
        assert "has no model 'nobody'. It has: teacher." in result.stderr
        assert f"--model {teacher.model}" in result.stderr
        assert (made(), teacher.account().tokens) == (0, 0)
        assert teacher.account().calls.total() <= PARALLEL


def test_a_server_that_limits_and_says_nothing_more_only_slows_the_run_down() -> None:
    with Teacher(delay=0.02, rpm=20, window=0.4) as teacher:
        assert generate(teacher, "-j", "12").exit_code == 0
        account = teacher.account()
    assert (made(), account.twice) == (PROMPTS, [])
    assert account.limited
