"""`redraft ask`: what it prints, where, and how it ends.

Tests with a terminal or signals start a process. The others call the command here.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redraft.chain import Chain
from redraft.cli import app
from tests.engines.fake_server import FakeServer, Reply, chat_event, chat_reply, models_reply, sse_reply
from tests.gguf_files import lora

REDRAFT = [sys.executable, "-m", "redraft"]


def script(folder: Path, *replies: object) -> str:
    path = folder / "replies.jsonl"
    path.write_text("".join(json.dumps(reply) + "\n" for reply in replies), encoding="utf-8")
    return f"script:{path}"


def ask(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    done = CliRunner().invoke(app, ["ask", *args], input=stdin, env=env, prog_name="redraft")
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)


def on_a_terminal(*args: str) -> str:
    """What `ask` shows on a real pseudo-terminal."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    child = subprocess.Popen([*REDRAFT, "ask", *args], stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    child.wait(30)
    os.close(master)
    return shown.decode()


def test_in_a_pipe_only_the_best_answer_is_printed(tmp_path: Path) -> None:
    done = ask("Go.", "-m", script(tmp_path, "one two three", "one two"), "-c", "words<=2")
    assert (done.stdout, done.stderr, done.returncode) == ("one two\n", "", 0)


def test_checks_not_passed_are_status_1_and_said_on_stderr(tmp_path: Path) -> None:
    model = script(tmp_path, "one two three")
    done = ask("Go.", "-m", model, "-c", "words<=2", "-c", "contains:one", "--max-revisions", "0")
    assert (done.stdout, done.returncode) == ("one two three\n", 1)
    assert done.stderr == (
        "redraft: the answer fails 1 of 2 checks.\n"
        "  words<=2: The answer has 3 words, and at most 2 are allowed: 1 too many.\n"
    )


def test_a_minimum_of_revisions_that_was_not_reached_is_said(tmp_path: Path) -> None:
    model = script(tmp_path, "A gull.", "Bad. Revision is needed.", "")
    done = ask("Describe a bird.", "-m", model, "--min-revisions", "3")
    assert (done.stdout, done.returncode) == ("A gull.\n", 1)
    assert "minimum not reached: 1 of at least 3 revisions" in done.stderr


def test_the_prompt_may_come_from_standard_input(tmp_path: Path) -> None:
    model = script(tmp_path, "one")
    for args in ([], ["-"]):
        done = ask(*args, "-m", model, "--json", "--max-revisions", "0", stdin="Line 1\nLine 2\n")
        assert Chain.from_json(done.stdout).prompt.instruction == "Line 1\nLine 2"


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_an_empty_prompt_is_status_2(prompt: str, tmp_path: Path) -> None:
    done = ask(prompt, "-m", script(tmp_path, "one"))
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == 'redraft: the prompt is empty.\n  redraft ask "Describe a lighthouse."\n'


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--check", "word<=50"], "redraft: no check is called 'word'. Did you mean 'words'?"),
        (["--check", "matches:("], "redraft: "),
        (["--temprature", "1"], "No such option: --temprature"),
        (["--recipe", "none-such"], "redraft: there is no recipe 'none-such'."),
        (["--price", "cheap"], "redraft: the price 'cheap' cannot be read."),
        (["--budget-usd", "1"], "redraft: a limit of 1.0 USD needs the price of the model"),
        (["--mode", "native", "--top-p", "3"], "redraft: top_p is 3.0."),
        (["--max-revisions", "two"], "Invalid value for '--max-revisions'"),
    ],
)
def test_wrong_usage_is_status_2_without_a_traceback(args: list[str], message: str, tmp_path: Path) -> None:
    done = ask("Go.", "-m", script(tmp_path, "one"), *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        ([b"caf\xe9"], b"", "the prompt is not UTF-8 at character 4: 'caf\\udce9'."),
        ([], b"caf\xe9", "the prompt is not UTF-8 at character 4: 'caf\\udce9'."),
        ([b"Go.", b"-c", b"contains:\xe9"], b"", "--check is not UTF-8 at character 10: 'contains:\\udce9'."),
    ],
)
def test_what_is_not_utf8_is_refused(args: list[bytes], stdin: bytes, said: str, tmp_path: Path) -> None:
    command = [*REDRAFT, "ask", "-m", script(tmp_path, "one"), "--json", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert done.stderr.decode().splitlines()[0] == f"redraft: {said}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--min-revisions", "3", "--max-revisions", "1"], "min_revisions is 3 and max_revisions is 1."),
        (["--budget-usd", "1"], "a limit of 1.0 USD needs the price of the model"),
        (["--mode", "natural"], "mode is 'natural'."),
        (["--mode", "verified"], "mode 'verified' needs checks, and there are none."),
        (["--mode", "verified", "-c", "json", "--critic", "default"], "mode 'verified' asks no critic"),
        (["--temperature", "-1"], "temperature is -1.0."),
        (["--check", "word<=50"], "no check is called 'word'."),
    ],
)
def test_wrong_usage_is_said_before_the_model_is_opened(flags: list[str], message: str) -> None:
    done = ask("Go.", "-m", "script:nowhere.jsonl", *flags)
    assert done.stderr.startswith(f"redraft: {message}")
    assert done.returncode == 2


def test_engine_trouble_is_status_3_and_keeps_what_there_is(tmp_path: Path) -> None:
    model = script(tmp_path, "First.", {"text": "Half a", "error": "the line went dead"})
    done = ask("Go.", "-m", model)
    assert (done.stdout, done.returncode) == ("First.\n", 3)
    assert done.stderr == "redraft: the line went dead\n"


def test_json_gives_the_chain_of_engine_trouble_too(tmp_path: Path) -> None:
    model = script(tmp_path, "First.", {"text": "Half a", "error": "the line went dead"})
    done = ask("Go.", "-m", model, "--json")
    chain = Chain.from_json(done.stdout)
    assert (chain.answer, chain.stop, done.returncode) == ("First.", "error", 3)


EVIL = "red \x1b[31m \x9b1m"


@pytest.mark.parametrize("flags", [["--quiet"], ["--json"], []])
def test_nothing_of_a_model_or_server_steers_a_terminal(flags: list[str], tmp_path: Path) -> None:
    failing = ["-m", script(tmp_path, EVIL), "-c", f"contains:{EVIL}x", "--max-revisions", "0"]
    shown = on_a_terminal("Go.", *failing, *flags)
    assert "\x1b[31m " not in shown
    assert "\x9b" not in shown
    assert "red \ufffd[31m" in shown or "red \\u001b[31m" in shown
    shown = on_a_terminal("Go.", "-m", script(tmp_path, {"text": EVIL, "error": EVIL}), *flags)
    assert "\x1b[31m " not in shown
    assert "\x9b" not in shown
    assert "redraft: red \ufffd[31m \ufffd1m" in shown


def test_in_a_pipe_an_answer_stays_as_it_is(tmp_path: Path) -> None:
    done = ask("Go.", "-m", script(tmp_path, EVIL), "--max-revisions", "0")
    assert done.stdout == EVIL + "\n"


def test_a_terminal_sees_steps_a_diff_and_how_it_ended(tmp_path: Path) -> None:
    model = script(tmp_path, "The cat sat on the old red mat.", "The cat sat on the red mat.")
    shown = on_a_terminal("Go.", "-m", model, "-c", "words<=7")
    assert "\x1b[31;9m" in shown or "\x1b[9;31m" in shown, "what has gone is red and struck out"
    for part in ("Answer", "Feedback 1", "to be revised", "Revision 1", "every check passed", "2 answers"):
        assert part in shown


def test_quiet_is_plain_on_a_terminal_too(tmp_path: Path) -> None:
    shown = on_a_terminal("Go.", "-m", script(tmp_path, "one"), "--quiet", "--max-revisions", "0")
    assert shown == "one\r\n"


CHAT = "POST /v1/chat/completions"


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.parametrize("phase", ["draft", "feedback", "check"])
def test_ctrl_c_keeps_what_there_is_and_is_status_130(phase: str, tmp_path: Path) -> None:
    half = sse_reply(chat_event("Half"), 600.0)
    replies = [half] if phase == "draft" else [chat_reply("First."), half]
    begun = tmp_path / "begun"
    args = (
        ["--check", f"command:sh -c 'touch {begun}; sleep 60'"]
        if phase == "check"
        else ["--mode", "prompted"]
    )
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m")).on(CHAT, *replies)
        command = [*REDRAFT, "ask", "Go.", "-m", server.url, "--json", *args]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if phase == "check":
            wait_until(begun.exists)
        else:
            wait_until(lambda: len(server.asked(CHAT)) == len(replies))
            time.sleep(0.5)  # the piece of text is on its way
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "")
    chain = Chain.from_json(out)
    assert chain.stop == "cancelled"
    assert chain.answer == ("Half" if phase == "draft" else "First.")


def test_ctrl_c_before_the_model_is_there(tmp_path: Path) -> None:
    """While it waits for the rest of its prompt: the beginning has been taken out of the pipe."""
    prompt, end = os.pipe()
    command = [*REDRAFT, "ask", "-m", script(tmp_path, "x")]
    child = subprocess.Popen(command, stdin=prompt, stderr=subprocess.PIPE)
    os.write(end, b"Describe")
    wait_until(lambda: not select.select([prompt], [], [], 0)[0])
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    os.close(prompt)
    os.close(end)
    assert child.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.parametrize("role", ["--critic", "--judge"])
def test_ctrl_c_while_critic_or_judge_are_opened(role: str, tmp_path: Path) -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", Reply(pieces=[600.0]))
        command = [*REDRAFT, "ask", "Go.", "-m", script(tmp_path, "one"), role, server.url]
        command += ["--check", "judge:It is kind."] if role == "--judge" else []
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: bool(server.requests))
        child.send_signal(signal.SIGINT)
        assert server.dropped.wait(10), "the first Ctrl-C ends the waiting"
        out, err = child.communicate(timeout=30)
    assert (out, err, child.returncode) == ("", "", 130)


def test_config_recipe_and_flag_in_that_order(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[defaults]\ntemperature = 0.1\nmax_revisions = 0\nsystem = "config"\n', encoding="utf-8"
    )
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "about: mine\nsystem: recipe\ntop-p: 1\ntemperature: 0.2\ncheck: ['words<=9']\n", encoding="utf-8"
    )
    done = ask(
        "Go.", "-m", script(tmp_path, "one"), "--recipe", str(recipe), "--temperature", "0.3", "--json",
        REDRAFT_CONFIG=str(config),
    )  # fmt: skip
    chain = Chain.from_json(done.stdout)
    assert (chain.sampling["temperature"], chain.sampling["top_p"], chain.stop) == (0.3, 1.0, "passed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("checks: [json]", "there is no option 'checks'.\n  Did you mean 'check'?"),
        ("check: json", "check is 'json'.\n  It should be a list of texts."),
        ("seed: soon", "seed is 'soon'.\n  It should be a whole number"),
        ("- json", "a recipe is names and values."),
        ("a: [", "is not YAML: "),
        ("seed: 1\nseed: 2", "'seed' is there twice, in lines 1 and 2."),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    done = ask("Go.", "-m", script(tmp_path, "one"), "--recipe", str(recipe))
    assert done.returncode == 2
    assert message in done.stderr


def test_every_shipped_recipe_runs(tmp_path: Path) -> None:
    from redraft.cli import options

    shipped = sorted(path.stem for path in (Path(options.__file__).parent.parent / "recipes").glob("*.yaml"))
    assert shipped
    for name in shipped:
        done = ask("Go.", "-m", script(tmp_path, '{"a": 1}'), "--recipe", name, "--json")
        assert Chain.from_json(done.stdout).passed, name


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (
            ["--budget-tokens", "5", "-c", "contains:zebra"],
            1,
            "redraft: the answer was cut: the budget is used up.\n",
        ),
        (
            ["--max-tokens", "5", "--max-revisions", "0"],
            0,
            "redraft: the answer was cut: the limit of new tokens",
        ),
        (["--budget-seconds", "0.5", "-c", "command:sleep 30"], 1, "redraft: the checks were not done when"),
    ],
)
def test_what_is_not_whole_is_said_in_a_pipe(args: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = ask("Go.", "-m", script(tmp_path, "one two three"), *args)
    assert done.returncode == status
    assert said in done.stderr


def test_a_model_that_leaves_the_format_was_not_cancelled(tmp_path: Path) -> None:
    text = "One.\n\n### Feedback 1:\nNo. Revision is needed.\n\n### Revision 4:\nAnd on and on."
    model = script(tmp_path, {"settings": {"native": True}}, text)
    assert ask("Go.", "-m", model).stderr == "redraft: the answer was cut: the model left the format.\n"
    shown = on_a_terminal("Go.", "-m", model)
    assert "the model left the format (malformed)" in shown
    assert "cancelled" not in shown


def test_an_adapter_that_was_trained_upon_another_is_not_used_silently(tmp_path: Path) -> None:
    model, adapter = tmp_path / "m.gguf", tmp_path / "a.gguf"
    lora(adapter, more={"redraft.base": f"{model}+first"})
    said = ask("Go.", "-m", f"{model}+{adapter}").stderr
    assert said.startswith(f"redraft: {adapter} was trained on {model}+")


LOUD = """\
import subprocess
import sys

print("on import")


def quiet(answer):
    print("a print")
    sys.stdout.write("a write\\n")
    subprocess.run(["echo", "a program"], check=True)
    return True
"""


def test_what_a_check_prints_does_not_get_into_the_answer(tmp_path: Path) -> None:
    (tmp_path / "loud_rules.py").write_text(LOUD)
    (tmp_path / "prompts.txt").write_text("Hi\n")
    (tmp_path / "replies.jsonl").write_text('"A gull."\n')
    more = ["-m", "script:replies.jsonl", "-c", "python:loud_rules.quiet"]
    for words in (["ask", "Hi"], ["answer", "prompts.txt", "-o", "out.jsonl"]):
        command = [sys.executable, "-m", "redraft", *words, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("A gull.\n" if words[0] == "ask" else "answers    1 in out.jsonl\n")
        for said in ("on import", "a print", "a write", "a program"):
            assert said not in done.stdout
            assert said in done.stderr


def test_a_budget_that_ends_before_the_first_token_is_no_answer(tmp_path: Path) -> None:
    replies = script(tmp_path, {"text": "", "stall": 30})
    done = ask("Hi", "--model", replies, "--budget-seconds", "2")
    assert done.returncode == 3
    assert "there is no answer" in done.stderr
    assert "was cut" not in done.stderr
    assert done.stdout == ""
