from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
import typer
from pydantic_core import SchemaError
from typer.testing import CliRunner, Result

from redraft import __version__, chain
from redraft.cli import main
from redraft.cli.shell import Verbs, write
from redraft.cli.verb import Verb
from redraft.errors import CheckError, ContextError, MissingExtra, RedraftError
from tests.cli.verbs import REDRAFT, redraft


def run(verb: object, *args: str) -> Result:
    own = typer.Typer(cls=Verbs, rich_markup_mode=None, pretty_exceptions_enable=False)
    own.callback()(lambda: None)
    own.command("do", cls=Verb)(verb)  # type: ignore[type-var]
    return CliRunner().invoke(own, ["do", *args], prog_name="redraft")


def raising(error: BaseException) -> object:
    def do() -> None:
        raise error

    return do


LANGUAGE = """\
redraft: language needs the extra 'data', which is not installed.
  pip install '.[data]' (in the checkout of redraft)
"""
TOO_LONG = """\
redraft: the prompt has 5000 tokens and the context holds 4096.
  Shorten the prompt, or ask for a longer context: --ctx 6024 (in Python: load_engine(…, ctx=6024)).
"""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RedraftError("it broke."), 1, "redraft: it broke.\n"),
        (
            CheckError("it broke.", hint="Mend it.\nTry again."),
            2,
            "redraft: it broke.\n  Mend it.\n  Try again.\n",
        ),
        (MissingExtra("language", "data"), 2, LANGUAGE),
        (ContextError(5000, 4096, trained=8192), 3, TOO_LONG),
    ],
)
def test_an_error_is_a_message_a_hint_and_a_status(error: RedraftError, status: int, said: str) -> None:
    result = run(raising(error))
    assert (result.exit_code, result.stderr, result.stdout) == (status, said, "")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    result = run(lambda: path.read_text())
    assert (result.exit_code, result.stderr) == (2, f"redraft: {path}: No such file or directory.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("verb", [["--help"], ["show"], ["show", "--json"]])
def test_a_full_disk_is_said(verb: list[str], buffered: bool, tmp_path: Path) -> None:
    if verb[0] == "show":
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("Go.\n")
        verb = [*verb, str(prompts)]
    env = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*REDRAFT, *verb], stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert done.stderr == "redraft: standard output cannot be written: No space left on device.\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "absent", "extra"),
    [
        (["data", "dedupe", "a.jsonl", "-j", "1"], "rapidfuzz", "data"),
        (["report", "a.jsonl"], "scipy", "eval"),
        (["serve"], "uvicorn", "serve"),
        (["weights", "diff", "base", "target", "-o", "delta"], "torch", "weights"),
    ],
)
def test_without_its_extra_a_verb_says_what_to_install(
    words: list[str], absent: str, extra: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"question_id": 1, "text": "8 8", "score": [8, 8]}\n')
    code = f"import sys; sys.modules[{absent!r}] = None; from redraft.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, f"pip install '.[{extra}]'" in done.stderr) == (2, True), done.stderr


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    assert isinstance(run(raising(ZeroDivisionError())).exception, ZeroDivisionError)


def test_an_interrupt_ends_with_130_and_no_words() -> None:
    result = run(raising(KeyboardInterrupt()))
    assert (result.exit_code, result.output) == (130, "")


def do_with_flags(
    file: Annotated[str, typer.Argument(help="A file.")],
    others: Annotated[list[str] | None, typer.Argument(help="More of them.")] = None,
    seed: Annotated[int, typer.Option(help="A seed.", rich_help_panel="Sampling")] = 0,
    name: Annotated[str, typer.Option(help="A [name].")] = "x",
    top_p: Annotated[float, typer.Option(help="A share.", rich_help_panel="Sampling")] = 1.0,
) -> None:
    """Does it."""


def test_help_is_grouped_and_plain() -> None:
    text = run(do_with_flags, "--help").output
    places = [
        text.index(part) for part in ("Arguments:", "Options:", "A [name].", "Sampling:", "--seed", "--top-p")
    ]
    assert places == sorted(places)
    assert text.isascii()
    assert "Usage: redraft do [OPTIONS] FILE [OTHERS...]\n" in text


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("ask --temp", "Did you mean '--temperature'?\n  redraft ask --help"),
        ("ask --n-predict", "Did you mean '--max-tokens'?\n  redraft ask --help"),
        ("ask --max-retries", "Did you mean '--max-revisions' or '--retries'?\n  redraft ask --help"),
        ("answer --output", "Did you mean '--out'?\n  redraft answer --help"),
        ("serve --no-pag", "Did you mean '--no-page'?\n  redraft serve --help"),
        ("train sft --lr", "Did you mean '--learning_rate'?\n  redraft train sft --help-all"),
        ("ask --check", "redraft ask --help"),
        ("eval mine.jsonl -o x", "redraft eval [OPTIONS] TASK RECORDS"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_with_the_one_that_is_meant(typed: str, hint: str) -> None:
    result = redraft(*typed.split())
    assert result.exit_code == 2
    assert result.stderr.partition("\n")[2].startswith(f"  {hint}")


def test_what_needs_no_verb() -> None:
    mistyped = redraft("doktor")
    assert (mistyped.exit_code, "redraft: no such command 'doktor'" in mistyped.stderr) == (2, True)
    assert redraft("train", "dpo").stderr.endswith("pairs: see docs/rlhf.md.\n")
    assert {redraft(flag).stdout for flag in ("--version", "-V", "-v")} == {f"redraft {__version__}\n"}
    assert redraft("help").stdout == redraft("--help").stdout
    assert redraft("help", "data", "stats").stdout == redraft("data", "stats", "--help").stdout
    bare = redraft()
    assert (bare.exit_code, "Usage: redraft [OPTIONS] COMMAND" in bare.output) == (2, True)
    late = redraft("ask", "--debug", "x")
    assert late.exit_code == 2
    assert late.stderr == "redraft: --debug goes before the command.\n  redraft --debug ask …\n"


@pytest.mark.parametrize("length", [10, 50_000], ids=["written at the end", "written at once"])
def test_a_reader_that_goes_away_is_told_by_the_status_alone(length: int, tmp_path: Path) -> None:
    script = tmp_path / "replies.jsonl"
    script.write_text(json.dumps("x" * length))
    with subprocess.Popen(
        [sys.executable, "-m", "redraft", "ask", "hi", "-m", f"script:{script}", "--max-revisions", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("closed", ["<&-", "2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_an_empty_one_and_a_lost_answer_an_error(closed: str, tmp_path: Path) -> None:
    script = tmp_path / "replies.jsonl"
    script.write_text('"Rain."\n')
    words = [*REDRAFT, "ask", "hi", "-m", f"script:{script}", "--max-revisions", "0"]
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], capture_output=True, text=True)
    if closed == ">&-":
        assert (done.returncode, done.stderr) == (2, "redraft: standard output is closed.\n")
    else:
        assert done.stderr == ""
        assert (done.returncode, done.stdout) == ((2, "") if ">&-" in closed.split() else (0, "Rain.\n"))


STARTING = """
import sys
from redraft.cli import main
sys.argv = ["redraft", "ask", "hi", "-m", "script:{script}"]
print("started", flush=True)
main()
"""
DROPPED = """
import signal, sys
def watch(frame, event, _):
    inside = event == "call" and frame.f_code.co_name == "cb" and "importlib" in frame.f_code.co_filename
    if inside and sys.unraisablehook is not sys.__unraisablehook__:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)
sys.setprofile(watch)
"""


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.5, None])
def test_an_interrupt_while_it_starts(tmp_path: Path, delay: float | None) -> None:
    """Tested from our first line on. We cannot change what Python prints before that.

    None stands for one that comes in a callback of an import: there Python drops exceptions.
    """
    script = tmp_path / "replies.jsonl"
    script.write_text('{"text": "a", "stall": 60}\n')
    code = DROPPED * (delay is None) + STARTING.format(script=script)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if delay is not None:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=50)
    assert process.returncode == 130
    assert said in ("", "redraft: stopped: the answer is incomplete.\n")  # if it has asked by then


def test_an_interrupt_that_pydantic_wraps_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.cli._run", raising(SchemaError('Field "a": KeyboardInterrupt: ')))
    with pytest.raises(SystemExit, match="130"):
        main()


def test_little_is_imported_before_interrupts_are_handled() -> None:
    """Until then, a Ctrl-C shows Python's own traceback."""
    code = "import sys; before = set(sys.modules); import redraft.cli; print(*set(sys.modules) - before)"
    environment = os.environ | {"PYTHONPATH": str(Path(chain.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    assert {"redraft.cli", "signal"} <= set(done.stdout.split())
    assert not {"typing", "re", "importlib", "typer"} & set(done.stdout.split())


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(2, signal.SIG_IGN); from redraft.cli import main\n"
    code += "sys.argv = ['redraft', '--version']\ntry: main()\nexcept SystemExit: pass\n"
    code += "print(signal.getsignal(2) is signal.SIG_IGN)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True"


def _nested(deep: int, first: str, last: str) -> str:
    return first * deep + "1" + last * deep


HOSTILE_FILES = {
    "random": bytes(range(128, 256)) * 3, "empty": b"", "deep list": _nested(5000, "[", "]").encode(),
    "deep object": _nested(5000, '{"text":', "}").encode(), "surrogate": b'"\\ud800"\n',
    "half settings": b'{"settings": {"chunk": []}}\n"x"\n', "bad stall": b'{"text": "a", "stall": "x"}\n',
    "date": b"seed: 2020-13-45\n", "digits": b"max_tokens: " + b"9" * 5000 + b"\n", "nul": b"seed: \0\n",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_no_file_makes_a_traceback(tmp_path: Path, name: str) -> None:
    file, good = tmp_path / "file", tmp_path / "good.jsonl"
    file.write_bytes(HOSTILE_FILES[name])
    good.write_text('"One."\n')
    ask = ["ask", "hi", "-m", f"script:{good}"]
    for verb in (
        ["ask", "hi", "-m", f"script:{file}"],
        ["ask", "hi", "--json", "-m", f"script:{file}"],
        [*ask, "--recipe", str(file)],
        [*ask, "-c", f"json-schema:{file}"],
        [*ask, "-c", f"judge:{file}", "--judge", f"script:{good}"],
        ["ask", "hi", "-m", str(file)],
        ["show", str(file)],
        ["answer", str(file), "-m", f"script:{good}", "-o", str(tmp_path / "out.jsonl")],
        ["weights", "info", str(file)],
    ):
        redraft(*verb)  # raises what is a fault of ours
    redraft(*ask, REDRAFT_CONFIG=str(file))


def test_a_row_wider_than_the_terminal_goes_on_below_its_last_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    write(row := "best of 2  75.0 %  13 new tokens a prompt, 70 read", table=True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write(row, table=True)
    below = "best of 2  75.0 %  13 new tokens a\n" + " " * 19 + "prompt, 70 read\n"
    assert capsys.readouterr().out == f"{row}\n{below}"
