"""The options that are defined once: their ranges, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

from redraft.data.generate.options import ChainOptions, InstructionOptions
from redraft.engines.base import Sampling
from redraft.engines.config import load_config
from redraft.errors import UsageError
from redraft.evaluation.judging.run import JudgeFileOptions
from redraft.evaluation.tasks.run import EvalFileOptions
from redraft.options import MAX_SEED, Defaults, Flags, OptionModel, PlainOptions, options_of
from redraft.revision import keywords as kinds
from redraft.revision.options import RevisionOptions, check_options
from redraft.revision.prompts import DEFAULT, SHIPPED
from redraft.revision.runs.options import AnswerOptions
from redraft.revision.settings import Settings

WRONG: list[tuple[str, Any, str]] = [
    ("temperature", 100, "at least 0 and below 100"), ("temperature", float("nan"), "a number"),
    ("temperature", "hot", "a number"), ("top_p", 0, "above 0 and at most 1"),
    ("max_tokens", 1.5, "a whole number"), ("max_tokens", 10**30, "above 0 and at most 2,147,483,647"),
    ("max_revisions", -1, "at least 0"), ("seed", MAX_SEED + 1, "at most 2,147,483,647"),
    ("mode", "fast", "auto, native, prompted, verified, best-of or repair"),
    ("system", "a\ud800", "a text without lone surrogates"), ("prompts", 3, "the name of the prompts"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_refused_everywhere_with_what_is_allowed(
    name: str, value: Any, allowed: str, tmp_path: Path
) -> None:
    for refuse in (lambda: check_options({name: value}), lambda: Flags.read({name: value})):
        with pytest.raises(UsageError, match=rf"^{name} is ") as caught:
            refuse()
        assert allowed in str(caught.value.hint)


def test_a_recipe_and_the_config_file_name_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("max-tokens: -5\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.yaml: max_tokens is -5") as caught:
        Settings.read(Flags, {"recipe": str(path)})
    assert "above 0" in str(caught.value.hint)
    path.write_text("[defaults]\nmax-tokens = -5\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.yaml: defaults\.max_tokens is -5"):
        load_config(path)


@pytest.mark.parametrize("kind", [RevisionOptions, Flags])
def test_an_unknown_name_is_refused_with_the_nearest(kind: Any) -> None:
    with pytest.raises(UsageError, match="there is no option 'temprature'") as caught:
        kind.read({"temprature": 1})
    assert caught.value.hint == "Did you mean 'temperature'?"
    with pytest.raises(UsageError, match="there is no option 'nonsense'") as caught:
        kind.read({"nonsense": 1})
    assert str(caught.value.hint).startswith("Options: ")


NOT_OPTIONS = {"schema", "form", "tools", "unset", "call_id", "role", "chain", "begun", "likelier"}
NOT_OPTIONS |= {"extra_body", "extra_headers", "logprobs", "top_logprobs", "banned", "unending"}


def test_the_defaults_are_those_that_engines_and_chains_have() -> None:
    defaults = {name: option.default for name, option in options_of(PlainOptions).items()}
    sampling = Sampling()
    assert vars(sampling).keys() - NOT_OPTIONS <= defaults.keys()
    for name in ("temperature", "top_p", "max_tokens"):
        assert f"[{getattr(sampling, name):g}, or the server default]" in options_of(PlainOptions)[name].text
    assert SHIPPED[defaults["prompts"]] == DEFAULT


def test_a_default_is_a_value_that_is_allowed() -> None:
    for kind in (RevisionOptions, Flags):
        defaults = {name: option.default for name, option in options_of(kind).items()}
        given = {name: value for name, value in defaults.items() if value is not None}
        assert kind.read(given).explicit == given


def test_parts_that_a_budget_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="a budget cannot limit 'token'") as caught:
        check_options({"budget": {"token": 5}})
    assert caught.value.hint == "Limits: tokens, seconds, usd"


def test_every_option_has_one_sentence_of_help() -> None:
    for kind in (RevisionOptions, Defaults):
        for name, option in options_of(kind).items():
            assert option.text, name
            assert not option.text.endswith("."), name


def test_paths_of_runs_may_be_texts_and_no_cancel_may_be_given() -> None:
    assert AnswerOptions.read({"cache": "replies.db"}).cache == Path("replies.db")
    assert check_options({"cancel": None}).cancel is None


def test_a_wrong_model_is_told_what_a_model_is() -> None:
    for name in ("model", "critic", "judge"):
        with pytest.raises(UsageError) as caught:
            Flags.read({name: Sampling()})
        assert caught.value.hint == "It should be a model reference (docs/engines.md)."


def taken(annotation: Any) -> Any:
    kind, *marks = (annotation.__origin__, *getattr(annotation, "__metadata__", ()))
    given = [getattr(mark, "json_schema_input_type", Any) for mark in marks]
    return next((each for each in given if each is not Any), kind)


@pytest.mark.parametrize(
    ("model", "keywords", "apart"),
    [
        (PlainOptions, kinds.PlainKeywords, ()),
        (RevisionOptions, kinds.RevisionKeywords, ("output", "on_event")),
        (Flags, kinds.FlagsKeywords, ()),
        (AnswerOptions, kinds.AnswerKeywords, ()),
        (EvalFileOptions, kinds.EvalFileKeywords, ()),
        (ChainOptions, kinds.ChainKeywords, ()),
        (InstructionOptions, kinds.InstructionKeywords, ("model",)),
        (JudgeFileOptions, kinds.JudgeFileKeywords, ()),
    ],
)
def test_keyword_arguments_are_those_of_the_models(
    model: type[OptionModel], keywords: Any, apart: tuple[str, ...]
) -> None:
    hints, options = get_type_hints(keywords), get_type_hints(model, include_extras=True)
    found = {name: options[name] for name in model.model_fields}
    assert hints.keys() | {"model"} == found.keys() | {"model"}
    for name in hints.keys() - apart:
        kind = found[name]
        assert hints[name] == (taken(kind) if hasattr(kind, "__metadata__") else kind), name


def test_a_number_that_python_does_not_print_is_refused_too() -> None:
    with pytest.raises(UsageError, match=r"^seed is a number of thousands of digits") as caught:
        check_options({"seed": 10**5000})
    assert "at most 2,147,483,647" in str(caught.value.hint)


def test_of_a_list_in_a_message_only_the_type_is_shown() -> None:
    """Lists that hold one another twice are a few lines of YAML, and gigabytes of text from the 30th on."""
    nested: list[object] = []
    for _ in range(18):
        nested = [nested, nested]
    with pytest.raises(UsageError, match=r"^check: item 1 is a list[.]") as caught:
        Flags.read({"check": nested})
    assert "a text" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"item 1 is a mapping {'lacks': a list}[.]\n"):
        Flags.read({"check": [{"lacks": nested}]})


@pytest.mark.parametrize(
    ("read", "options", "message", "hint"),
    [
        (Flags.read, {"check": [{"lacks": "light"}]},
         "check: item 1 is a mapping {'lacks': 'light'}.", "'lacks:light'"),
        (Flags.read, {"check": ["json", 5]}, "check: item 2 is 5.", "a text such as 'words<=50'"),
        (Flags.read, {"check": [print]}, "check: item 1 is <built-in function print>.", "'python:module"),
        (Flags.read, {"check": "json"}, "check is 'json'.", 'a list of texts: ["words<=50"]'),
        (check_options, {"stop": ["", 5]}, "stop: item 1 is ''.", "a non-empty text"),
        (check_options, {"stop": ("END", 5)}, "stop: item 2 is 5.", "a non-empty text"),
        (check_options, {"stop": {"END": 1}}, "stop is a dict.", "a list of texts"),
        (check_options, {"tools": [{}, 5]}, "tools: item 2 is 5.", "a tool: {'type': 'function'"),
    ],
)  # fmt: skip
def test_of_a_list_the_wrong_item_is_named(read: Any, options: Any, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(options)
    assert caught.value.message == message
    assert hint in str(caught.value.hint)
