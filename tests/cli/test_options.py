from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redraft.cli.options import fill_in
from redraft.engines.base import Price
from redraft.errors import UsageError
from redraft.revision.runs.options import IN_BATCHES
from redraft.revision.runs.plan import RunPlan
from tests.cli.verbs import redraft, refused, script


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.touch()
    monkeypatch.setenv("REDRAFT_CONFIG", str(path))
    return path


def test_a_price_is_the_writers_own(config: Path) -> None:
    config.write_text('[prices."api.example.com#big"]\nprompt = 1.25\ncompletion = 10\n', encoding="utf-8")
    named = "https://api.example.com/v1#big"
    assert fill_in({"model": named}).options().price is None, "the engine knows the config file's"
    assert fill_in({"model": named, "price": "1,2,0.5"}).options().price == Price(1, 2, 0.5)


@pytest.mark.parametrize("price", ["nan,2", "-1,-2", "1,inf", "1", "1;2", ""])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    with pytest.raises(UsageError, match=f"^the price '{price}' cannot be read") as caught:
        fill_in({"model": "http://localhost:8000/v1#m", "price": price}).options()
    assert "such as 0.5,1.5" in str(caught.value.hint)


def test_a_budget_of_money_without_a_price_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(UsageError, match="needs the price of the model 'default'"):
        fill_in({"budget_usd": 1}).options()
    with pytest.raises(UsageError, match="needs the price of the critic 'default'"):
        fill_in({"budget_usd": 1, "price": "1,2", "critic": "default"}).options()


def test_a_name_in_both_spellings_is_refused(config: Path, tmp_path: Path) -> None:
    config.write_text("[defaults]\nmax-tokens = 1\nmax_tokens = 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"config\.toml: .*defaults\.max_tokens.* twice"):
        fill_in({})
    config.write_text("", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("max-tokens: 1\nmax_tokens: 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"recipe\.yaml: .*max_tokens.* twice"):
        fill_in({"recipe": str(recipe)})


def test_a_flag_that_takes_no_value_says_how_to_say_no() -> None:
    refused(redraft("ask", "hi", "--tell-checks=no"), "--tell-checks takes no value", "--no-tell-checks")


def test_an_idle_judge_of_the_config_file_is_not_opened(config: Path) -> None:
    config.write_text('[defaults]\njudge = "script:none.jsonl"\n')
    model = script("Hello.")
    command = ["ask", "hi", "-m", model, "--max-revisions", "0"]
    assert redraft(*command).exit_code == 0
    refused(redraft(*command, "--judge", model), "a judge was given, but nothing asks it")


@pytest.mark.parametrize(
    ("verb", "defaults"),
    [
        (["answer"], ["[task]", "revise at most N times [3]", "criticism [--max-tokens]", "[0.7,", "[2048,"]),
        (
            ["generate", "chains"],
            ["[teacher]", "revise at most N times [4]", "criticism [256]", "greedy [1.0]", "[512]"],
        ),
    ],
)
def test_help_names_the_defaults_of_the_command(verb: list[str], defaults: list[str]) -> None:
    text = " ".join(redraft(*verb, "--help-all", COLUMNS="200").output.split())
    assert [default for default in defaults if default not in text] == []


def test_a_run_takes_what_is_not_given_from_the_config_file(config: Path) -> None:
    def plan(**flags: Any) -> RunPlan:
        return RunPlan.of(Path("out.jsonl"), fill_in(flags, "redraft.revision.runs.options:EvalFileOptions"))

    assert (plan().parallel, plan().quiet, plan(batch=True).parallel) == (4, False, IN_BATCHES)
    config.write_text("[defaults]\nparallel = 3\nquiet = true\n", encoding="utf-8")
    assert [plan(**given).parallel for given in ({}, {"parallel": 8}, {"batch": True})] == [3, 8, IN_BATCHES]
    assert plan().quiet
