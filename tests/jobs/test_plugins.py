"""Plugins: those of redraft and of other packages are found alike, and a broken one harms no other."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner

import redraft
from redraft.chain.read.shapes import read_shape, shapes
from redraft.checks.kinds import check_kinds, may_ask_judge
from redraft.checks.parse import parse_check
from redraft.cli.commands import _command, app
from redraft.errors import CheckSyntaxError, EngineError, RecordError, UsageError
from redraft.evaluation.tasks.tasks import Task, checks_of, task_named
from redraft.jobs import plugins as module
from redraft.jobs.plugins import Plugin, PluginError, PluginWarning, all_plugins, load_all, plugins
from tests.plugin_packages import install

ROOT = Path(__file__).resolve().parents[2]
GROUP = "redraft.tasks"
CODE = "from redraft.evaluation.tasks.tasks import Task\nclass some: task = Task('a prompt', lambda *_: [])\n"

SHOUTS = """
from redraft import Outcome, Prompt, failed, passed
from redraft.checks.kinds import CheckKind, Written

class Shouts:
    name = "shouts"
    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("It does.") if answer.isupper() else failed("Write in capitals.")

def greet(name: str = "you") -> None:
    "Greet somebody."
    print(f"Hello, {name}!")

kind = CheckKind("shouts", "is in capitals", lambda written: Shouts())
"""

Installs = Callable[..., None]


@pytest.fixture
def installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installs:
    for cached in (module._warn_once, check_kinds, _command):
        cached.cache_clear()

    def installs(
        package: str,
        name: str = "odd",
        target: str = "{}:some.task",
        code: str = CODE,
        version: str = "1.0",
        group: str = GROUP,
    ) -> None:
        own = package.replace("-", "_")
        install(tmp_path / package, package, {group: {name: target.format(own)}}, code, version)
        monkeypatch.syspath_prepend(tmp_path / package)
        monkeypatch.delitem(sys.modules, own, raising=False)

    return installs


def test_the_checkout_is_installed_with_what_pyproject_lists() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    for group in listed.keys() - {"pytest11"}:
        own = {name: each.target for name, each in plugins(group).items() if each.package == "redraft"}
        assert own == listed[group], "type: pip install --no-deps --editable ."


@pytest.mark.parametrize("plugin", [each for each in all_plugins() if each.package == "redraft"], ids=str)
def test_everything_that_is_built_in_loads(plugin: Plugin) -> None:
    assert plugin.load(object)


def test_the_same_is_found_as_importlib_finds(installs: Installs) -> None:
    installs("redraft-odd")
    found = {each for group in module._installed(tuple(sys.path)).values() for each in group.values()}
    own = {(each.name, each.value) for each in entry_points(group=GROUP)}
    assert own == {(each.name, each.target) for each in found if each.group == GROUP}


def test_a_task_of_another_package_comes_after_those_of_redraft(installs: Installs) -> None:
    installs("a-package", "a-task", version="2.5")
    assert [*plugins(GROUP)][-1] == "a-task"
    found = plugins(GROUP)["a-task"]
    assert (found.package, found.version, str(found)) == ("a-package", "2.5", "the task 'a-task'")
    assert "a_package" not in sys.modules
    assert found.load(Task).has == "a prompt"


def test_the_first_of_two_versions_in_the_path_counts(installs: Installs, tmp_path: Path) -> None:
    installs("redraft-odd", version="2.0")
    sys.path.append(str(tmp_path / "behind"))
    install(tmp_path / "behind", "redraft-odd", {GROUP: {"old": "redraft_odd:some"}}, version="1.0")
    assert plugins(GROUP)["odd"].version == "2.0"
    assert "old" not in plugins(GROUP)


BROKEN = {
    "its import fails": (
        {"code": "import of_another_package"},
        "redraft_odd.py:1, in <module>: ModuleNotFoundError: No module named 'of_another_",
    ),
    "it has no such name": (
        {"target": "{}:other"},
        "AttributeError: module 'redraft_odd' has no attribute 'other'",
    ),
    "no task": ({"target": "{}:some"}, "redraft_odd:some is <class 'redraft_odd.some'>, not of type Task"),
}


@pytest.mark.parametrize(("how", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_one_is_named_and_left_out(how: dict[str, str], why: str, installs: Installs) -> None:
    installs("redraft-odd", **how)
    with pytest.raises(PluginError) as caught:
        plugins(GROUP)["odd"].load(Task)
    message = f"the task 'odd' of the package redraft-odd 1.0 does not load: {why}"
    assert caught.value.message.startswith(message)
    assert "pip uninstall redraft-odd" in (caught.value.hint or "")
    with pytest.warns(PluginWarning) as told:
        loaded = load_all(GROUP, Task)
    assert "odd" not in loaded
    assert "gsm8k" in loaded
    assert str(told.pop().message).startswith(message)
    assert "odd" not in load_all(GROUP, Task)  # and warns no more


@pytest.mark.parametrize("name", ["odd", "gsm8k"])
def test_a_name_that_is_taken_is_an_error_that_names_both(name: str, installs: Installs) -> None:
    installs("z-package", name)
    installs("y-package", name)
    first = ["redraft"] * (name == "gsm8k")
    with pytest.raises(PluginError) as caught:
        plugins(GROUP)[name].load(Task)
    packages = " and ".join([*first, "y-package", "z-package"])
    assert caught.value.message == f"the task {name!r} is in {packages}, but only one package may define it."
    assert plugins(GROUP)["math"].load(Task)
    with pytest.warns(PluginWarning, match="y-package and z-package"):
        assert name not in load_all(GROUP, Task)


def test_an_installation_that_is_older_than_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "redraft", {"redraft.old": {"x": "redraft:x"}})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"the redraft\.tasks plugins are missing") as caught:
        plugins(GROUP)
    assert "pip install --no-deps --editable ." in (caught.value.hint or "")


def test_metadata_that_cannot_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "odd", {GROUP: {"odd": "odd:some"}})
    (tmp_path / "odd-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff")
    (tmp_path / "more-1.0.dist-info").mkdir()
    (tmp_path / "even-1.0.egg-info").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "missing")
    assert "odd" not in plugins(GROUP)


def typed(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output


def test_a_check_of_another_package_is_used_as_redrafts_own(installs: Installs, here: Path) -> None:
    installs("redraft-shouts", "shouts", "{}:kind", SHOUTS, group="redraft.checks")
    (here / "replies.jsonl").write_text('"Rain."\n"RAIN."\n')
    words = ["ask", "Describe rain.", "--model", "script:replies.jsonl", "--check", "all(words<=2; shouts)"]
    assert typed(*words) == (0, "RAIN.\n")
    assert "shouts" in typed("ask", "Go.", "--check", "misspelled")[1]
    for writer in ("anyone", "data"):
        with pytest.raises(CheckSyntaxError, match="the check 'shouts' cannot be used"):
            parse_check("shouts", writer=writer)
    assert [*check_kinds()][-1] == "shouts"


def test_a_check_of_another_package_may_ask_the_judge(installs: Installs) -> None:
    code = """
from redraft.checks.judge import Judge
from redraft.checks.kinds import CheckKind
kind = CheckKind("kindness", "is kind", lambda each: Judge.of("Is it kind?", each.judge), asks_judge=True)
"""
    installs("redraft-kindness", "kindness", "{}:kind", code, group="redraft.checks")
    judge = redraft.ScriptedEngine(["It is.\nScore: 9"])
    chain = redraft.revise("Go.", model=redraft.ScriptedEngine(["a"]), judge=judge, checks=["kindness"])
    assert (chain.passed, len(judge.calls)) == (True, 1)


def test_a_check_that_does_not_load_harms_no_other(installs: Installs) -> None:
    installs("redraft-shouts", "shouts", "{}:kind", "import other", group="redraft.checks")
    assert parse_check("words<=5").name == "words<=5"
    assert not may_ask_judge("contains:shouts")
    with pytest.raises(PluginError, match="No module named 'other'"):
        parse_check("shouts")
    left_out = "the check 'shouts' of the package redraft-shouts 1.0 does not load"
    with pytest.warns(PluginWarning, match=left_out), pytest.raises(CheckSyntaxError, match="'shout'"):
        parse_check("shout")


def test_a_command_of_another_package(installs: Installs) -> None:
    installs("redraft-shouts", "greet", "{}:greet", SHOUTS, group="redraft.commands")
    assert typed("greet", "--name", "Ann") == (0, "Hello, Ann!\n")
    assert "  greet     Greet somebody." in typed("--help")[1]


def test_a_command_that_does_not_load_is_named_by_help_and_doctor(installs: Installs) -> None:
    installs("redraft-shouts", "greet", "{}:greet", "import other", group="redraft.commands")
    status, text = typed("--help")
    assert status == 0
    assert "  greet     the command 'greet' of the package" in text
    status, text = typed("greet")
    assert (status, "in <module>: ModuleNotFoundError" in text, "uninstall redraft-shouts" in text) == (
        2,
        True,
        True,
    )
    status, text = typed("doctor")
    assert "bad plugin         the command 'greet' of the package redraft-shouts 1.0 does not load" in text
    assert "> Install another version of the package, or remove it: pip uninstall redraft-shouts" in text


IMPORTS = """
from redraft import Chain, Prompt, failed, passed
from redraft.chain import Step
from redraft.evaluation.tasks.tasks import Task
from redraft.chain.read.fields import Format, Shape, task
from redraft.checks.kinds import CheckKind
from redraft.checks.text import Contains

def read(fields):
    return task(fields.text("zap"), None)
"""

WRONG_FIELDS = {
    "CheckKind('c', None, read)": "TypeError: CheckKind.about is None, not a text",
    "CheckKind('c', 'x', None)": "TypeError: CheckKind.make is None, not a function",
    "CheckKind('c', 'x', read, writer='me')": "ValueError: CheckKind.writer is 'me', not one ",
    "Format([Shape('s', 'zap', read)])": "TypeError: Shape.needs is 'zap', not a set",
    "Format(Shape('s', {'zap'}, read))": "TypeError: Format.shapes is Shape(",
    "Format([read])": "TypeError: one of the shapes of a Format is <function read",
    "Format([], order='first')": "TypeError: Format.order is 'first', not a whole number",
    "Task('x', None)": "TypeError: Task.checks is None, not a function",
}


@pytest.mark.parametrize(("made", "why"), WRONG_FIELDS.items())
def test_a_field_of_a_wrong_type_harms_no_other(made: str, why: str, installs: Installs) -> None:
    installs("redraft-odd", target="{}:kind", code=f"{IMPORTS}\nkind = {made}\n")
    with pytest.raises(PluginError) as caught:
        plugins(GROUP)["odd"].load(object)
    assert re.search(r"does not load: redraft_odd\.py:\d+, in <module>", caught.value.message)
    assert why in caught.value.message


def test_an_import_that_exits_or_prints(installs: Installs, capfd: pytest.CaptureFixture[str]) -> None:
    installs("redraft-odd", code=f"print('loud')\n{CODE}")
    assert plugins(GROUP)["odd"].load(Task)
    assert capfd.readouterr() == ("", "loud\n")
    installs("redraft-script", "script", code="raise SystemExit('a script')")
    with pytest.raises(PluginError, match="in <module>: SystemExit: a script"):
        plugins(GROUP)["script"].load(Task)


@pytest.mark.parametrize("name", ["my check", "1st", "a.b", "_x"])
def test_a_name_that_nobody_can_type(name: str, installs: Installs) -> None:
    installs("redraft-odd", name)
    with pytest.raises(PluginError, match="does not load: names have letters"):
        plugins(GROUP)[name].load(Task)


@pytest.mark.parametrize(
    ("make", "why"),
    {
        "lambda written: 1 / 0": "in <lambda>: ZeroDivisionError: division by zero.",
        "lambda written: None": "returned None, not of type Check.",
        "lambda written: exit()": "in <lambda>: SystemExit: None.",
    }.items(),
)
def test_a_check_that_cannot_be_made(make: str, why: str, installs: Installs) -> None:
    code = f"{IMPORTS}\nkind = CheckKind('odd', 'is odd', {make})\n"
    installs("redraft-odd", target="{}:kind", code=code, group="redraft.checks")
    with pytest.raises(PluginError) as caught:
        parse_check("any(odd; words<=5)")
    assert caught.value.message.startswith("the check 'odd' of the package redraft-odd 1.0 ")
    assert caught.value.message.endswith(why)


@pytest.mark.parametrize(
    ("reader", "why"),
    {
        "lambda fields: 1 / 0": "a.jsonl:1: the format 'odd' of the package redraft-odd 1.0 crashed: ",
        "lambda fields: 'x'": "a.jsonl:1: the format 'odd' of the package redraft-odd 1.0 returned 'x', ",
        "lambda fields: Chain(prompt='x')": "a.jsonl:1: the record does not fit 'card': prompt: ",
    }.items(),
)
def test_a_reader_of_nonsense_names_the_record(reader: str, why: str, installs: Installs) -> None:
    code = f"{IMPORTS}\nkind = Format([Shape('card', {{'zap'}}, {reader})])\n"
    installs("redraft-odd", target="{}:kind", code=code, group="redraft.formats")
    shapes.cache_clear()
    try:
        with pytest.raises(RecordError) as caught:
            read_shape({"zap": "x"}, "a.jsonl:1")
        assert read_shape({"prompt": "x"}, "a.jsonl:2").prompt.text == "x"
    finally:
        shapes.cache_clear()
    assert caught.value.message.startswith(why)


@pytest.mark.parametrize(
    ("checks", "why"),
    {
        "lambda *_: 1 / 0": "r/1: the task 'odd' of the package redraft-odd 1.0 crashed: ",
        "lambda *_: None": "r/1: the task 'odd' of the package redraft-odd 1.0 returned None, not of type ",
        "lambda *_: []": "r/1: the record has no check that scores.",
        "lambda *_: [5]": "r/1: a check is a text, a Check, a JSON Schema or a function, not 5.",
    }.items(),
)
def test_a_task_whose_checks_are_nonsense(checks: str, why: str, installs: Installs) -> None:
    installs(
        "redraft-odd", target="{}:kind", code=f"{IMPORTS}\nkind = Task('a zap', {checks}, lambda record: 5)\n"
    )
    task, record = task_named("odd"), redraft.Chain(id="r/1", prompt=redraft.Prompt(instruction="x"))
    with pytest.raises(RecordError) as caught:
        checks_of(task, record)
    assert caught.value.message.startswith(why)
    assert task.prompt
    with pytest.raises(PluginError, match="returned 5, not of type str"):
        task.prompt(record)


CHAT = """
from redraft import Engine
from redraft.engines.base import Delta, EngineInfo
from redraft.engines.load import EngineKind

class Odd(Engine):
    info = EngineInfo(name="odd", engine="odd", continues=False)
    async def chat(self, messages, sampling, stop=()):
        yield Delta("Rain.")
        {}

async def opened(reference, opening):
    return Odd() if reference.target else 5

kind = EngineKind("odd:WORD", opened)
"""

ODD_REPLIES = {
    "1 / 0": "the engine 'odd' crashed: redraft_odd.py:10, in chat: ZeroDivisionError: division by zero.",
    "raise SystemExit('bye')": "the engine 'odd' crashed: redraft_odd.py:10, in chat: SystemExit: bye.",
    "yield 'text'": "the engine 'odd' yielded 'text', not a Delta.",
    "yield Delta(' It is wet.')": "the engine 'odd' ended a reply without a finish reason.",
}


@pytest.mark.parametrize(("line", "why"), ODD_REPLIES.items())
def test_an_engine_that_crashes_or_gives_nonsense(line: str, why: str, installs: Installs) -> None:
    installs("redraft-odd", target="{}:kind", code=CHAT.format(line), group="redraft.engines")
    with pytest.raises(EngineError) as caught:
        redraft.revise("Describe rain.", model=f"odd:{hash(line)}")  # not loaded by another test
    assert caught.value.message.startswith(why)
    assert caught.value.chain.steps[0].answer.startswith("Rain.")  # what came is not lost


def test_an_engine_of_another_package_answers_and_is_no_other_type(installs: Installs) -> None:
    code = CHAT.format("yield Delta(finish='stop', completion_tokens=2)")
    installs("redraft-odd", target="{}:kind", code=code, group="redraft.engines")
    assert redraft.revise("Describe rain.", model="odd:x").answer == "Rain."
    with pytest.raises(PluginError, match="opened 5, which is not an Engine"):
        redraft.revise("Describe rain.", model="odd:")


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        ("def greet():\n    1 / 0", 2, "crashed: redraft_shouts.py:2, in greet: ZeroDivisionError"),
        ("async def greet(): pass", 2, "is neither a plain function nor a typer.Typer"),
        ("greet = 5", 2, "5 is neither a plain function"),
        ("import typer\ndef greet(): raise typer.Exit(7)", 7, ""),
        ("def greet(): open('none.txt')", 2, "redraft: none.txt: No such file or directory."),
    ],
)
def test_a_command_that_crashes(code: str, status: int, why: str, installs: Installs) -> None:
    installs("redraft-shouts", "greet", "{}:greet", code, group="redraft.commands")
    found, text = typed("greet")
    assert found == status
    assert why in text


def test_a_crash_of_a_group_of_commands(installs: Installs) -> None:
    group = "import typer\nzoo = typer.Typer()\n"
    code = f"{group}@zoo.command()\ndef lion(): 1 / 0\n@zoo.command()\ndef cat(): pass\n"
    installs("redraft-zoo", "zoo", "{}:zoo", code, group="redraft.commands")
    assert (
        "the command 'zoo' of the package redraft-zoo 1.0 crashed: redraft_zoo.py:4"
        in typed("zoo", "lion")[1]
    )
    assert typed("zoo", "cat") == (0, "")


def test_a_crash_of_redraft_itself_is_a_bug_and_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), plugins(GROUP)["gsm8k"].running():
        1 / 0  # noqa: B018


def test_doctor_shows_what_is_installed_and_says_what_is_of_a_wrong_type(installs: Installs) -> None:
    installs("redraft-odd", version="2.0")
    installs("redraft-even", "even", "{}:some")
    text = typed("doctor")[1]
    assert "ok  plugin         the task 'odd' of the package redraft-odd 2.0\n" in text
    assert "the task 'even' of the package redraft-even 1.0 does not load: redraft_even:some" in text
