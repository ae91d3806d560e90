"""`redraft ask`: what it prints, where, and how it ends.

Tests with a terminal or signals start a process. The others call the command here.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft.chain import Chain
from redraft.cli.ask import _has_piped
from tests.cli import verbs
from tests.engines.fake_server import FakeServer, Reply, chat_event, chat_reply, models_reply, sse_reply


def ask(*words: object, stdin: str = "", **env: str) -> Result:
    return verbs.redraft("ask", *words, stdin=stdin, **env)


def on_a_terminal(*args: str, **how: Any) -> str:
    return verbs.shown_on_a_terminal("ask", *args, **how)


def test_in_a_pipe_only_the_best_answer_is_printed() -> None:
    go = ("Go.", "-m", verbs.script("one two three", "one two"), "-c", "words<=2")
    done = ask(*go)
    assert (done.stdout, done.stderr, done.exit_code) == ("one two\n", "", 0)
    shown = on_a_terminal(*go, "--json", stdout=subprocess.DEVNULL)
    assert ("Loading the model script:" in shown, "one two\r\n" in shown) == (True, False)
    written = verbs.start("ask", *go, "--steps", env=os.environ | {"PYTHONIOENCODING": "ascii"}).communicate()
    lines = written[0].splitlines()
    assert lines[:2] + lines[-1:] == [f"Answer {'─' * 73}", "one two three", "one two"]


def test_an_edit_prints_what_differs_and_leaves_the_file(tmp_path: Path) -> None:
    file, text = tmp_path / "notes.txt", "A castle.\r\n12 dollars a day.\r\n"
    file.write_bytes(text.encode())
    done = ask("--edit", file, "Use euros.", "-m", verbs.script("[2] 11 euros a day."))
    assert done.stdout.endswith("\n A castle.\n-12 dollars a day.\n+11 euros a day.\n")  # a runner drops \r
    at = ask("--edit", file, "Use euros.", "--at", "12 dollars", "-q", "-m", verbs.script("11 euros"))
    assert (at.stdout, at.exit_code) == ("A castle.\n11 euros a day.\n", 0)
    assert file.read_bytes() == text.encode()
    none = ask("--edit", file, "Use euros.", "-m", verbs.script("[2] 12 dollars a day."))
    assert (none.stdout, none.exit_code) == ("", 1)
    assert "the same text came back.\n  To change words, quote them: change" in none.stderr
    none = ask("--edit", file, "-c", "words<=3", "-m", verbs.script("No."))
    assert "nothing was changed: no passage to change was found for words<=3." in none.stderr
    none = ask("--edit", file, "-c", "lacks:day", "-m", verbs.script("12 dollars each day."))
    assert "the model's new text still fails lacks:day.\n  To change words, quote" in none.stderr
    none = ask("--edit", file, "Use euros.", "--at", "12 dollars", "-m", verbs.script("12 dollars"))
    assert "changed: the same text came back.\n  Quote the new text, as in" in none.stderr
    verbs.refused(ask("--edit", file, "Use euros.", "--at", "13 dollars"), "lacks the passage")
    verbs.refused(ask("--edit", file, "Use euros.", "--at", ""), "lacks the passage ''")
    file.write_text("A castle.\n12 dollars a day.")
    done = ask("--edit", file, "Use euros.", "-m", verbs.script("[2] 11 euros a day."))
    mark = "\n\\ No newline at end of file"
    assert done.stdout.endswith(f"-12 dollars a day.{mark}\n+11 euros a day.{mark}\n")
    verbs.refused(ask("Hi.", "-m", ""), "'' is empty")
    verbs.refused(ask("Use euros.", "--at", "13 dollars"), "--at needs --edit")
    verbs.refused(ask("--edit", file), "needs a prompt")
    for check, status in (("lacks:!", 0), ("lacks:?", 0), ("contains:zebra", 1)):
        file.write_text("It is 12 dollars a day!\n")
        done = ask("--edit", file, "-c", check, "-m", verbs.script("No."), "--max-revisions", 1)
        changed = done.stdout.endswith("\n+It is 12 dollars a day.\n")
        assert (changed, done.exit_code) == (check == "lacks:!", status)
    file.write_text("")
    verbs.refused(ask("--edit", file, "Use euros."), "text is blank")


@pytest.mark.skipif(not shutil.which("patch"), reason="no patch")
@pytest.mark.parametrize("passage", ["12 dollars", "lines", "A castle."])
def test_an_edit_is_a_diff_that_patch_takes(tmp_path: Path, passage: str) -> None:
    file, text = tmp_path / "my notes.txt", "A castle.\f\nTwo\u2028lines.\r\nIt is 12 dollars\x85 a day."
    file.write_bytes(text.encode())
    done = ask("--edit", file, "Other.", "--at", passage, "-m", verbs.script("11 euros"))
    subprocess.run(["patch", "-p0", "-s", file.name], input=done.stdout_bytes, cwd=tmp_path, check=True)
    assert file.read_bytes().decode() == text.replace(passage, "11 euros" + "." * passage.endswith("."))


def test_an_edit_that_ends_before_its_model_is_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It costs 12 dollars.\n")
    given = (
        "--edit", tmp_path / "a.txt", "in euros", "-m", verbs.script("11"), "--budget-seconds", "0.000001",
    )  # fmt: skip
    assert (ask(*given).stdout, ask(*given, "-q").stdout) == ("", "It costs 12 dollars.\n")


def test_an_edit_of_a_file_takes_no_piped_text_and_no_demands_of_a_prompt(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("A castle. 12 dollars.")
    verbs.refused(
        ask("--edit", file, "Use euros.", "-m", verbs.script("x"), stdin="Hi."), "a text is piped in"
    )
    verbs.refused(ask("--edit", file, "Use euros.", "-c", "auto"), "--check auto")


def test_on_windows_an_edit_of_a_file_waits_for_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hi.")))
    assert _has_piped()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hi.")))
    monkeypatch.setattr(sys, "platform", "win32")
    assert not _has_piped()


def test_an_edit_of_piped_text_says_which_places_stayed() -> None:
    text, at = "A castle.\n12 dollars a day.", ("--at", "castle", "--at", "12 dollars")
    done = ask("--edit", "-", "Other.", *at, "-q", "-m", verbs.script("[2] 11 euros", "castle"), stdin=text)
    assert (done.stdout, done.exit_code) == ("A castle.\n11 euros a day.\n", 1)
    assert done.stderr == "redraft: 1 place could not be changed.\n  'castle': the same text came back.\n"
    for prompt in ((), ("-",)):
        verbs.refused(ask("--edit", "-", *prompt, stdin=text), "needs a prompt")


def test_checks_not_passed_are_status_1_and_said_on_stderr() -> None:
    model = verbs.script("one two three")
    done = ask("Go.", "-m", model, "-c", "words<=2", "-c", "contains:one", "--max-revisions", "0")
    assert (done.stdout, done.exit_code) == ("one two three\n", 1)
    assert done.stderr == (
        "redraft: the answer fails 1 of 2 checks.\n"
        "  words<=2: The answer has 3 words, and at most 2 are allowed: 1 too many.\n"
    )


def test_an_answer_that_only_acknowledges_is_said() -> None:
    done = ask("Describe rain.", "-m", verbs.script("ok"), "-c", "words<=2", "--max-revisions", "0")
    assert (done.stdout, done.exit_code) == ("ok\n", 1)
    assert "the answer only repeats or acknowledges earlier text: 'ok'" in done.stderr


def test_a_minimum_of_revisions_that_was_not_reached_is_said() -> None:
    model = verbs.script("A gull.", "Bad. Revision is needed.", "")
    done = ask("Describe a bird.", "-m", model, "--min-revisions", "3")
    assert (done.stdout, done.exit_code) == ("A gull.\n", 1)
    assert "the model made 1 revision, but the minimum is 3" in done.stderr


def test_the_prompt_may_come_from_standard_input() -> None:
    model = verbs.script("one")
    for args in ([], ["-"]):
        done = ask(*args, "-m", model, "--json", "--max-revisions", "0", stdin="Line 1\nLine 2\n")
        assert Chain.from_json(done.stdout).prompt.instruction == "Line 1\nLine 2"


def test_a_file_for_the_answer_and_the_messages_is_told_of_slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.cli.ask.SILENT_SECONDS", 0)
    told = [ask("Hi.", *more, "-m", verbs.script("x")).stderr for more in ((), ("-q",))]
    assert told == ["redraft: the model is at work.\n", ""]


def test_a_text_that_is_piped_in_is_the_input_of_the_prompt() -> None:
    model = verbs.script("one")
    for text, expected in (("Rain fell.\r\nIt stopped.\n", "Rain fell.\nIt stopped."), ("", "")):
        done = ask("Summarise this.", "-m", model, "--json", "--max-revisions", "0", stdin=text)
        prompt = Chain.from_json(done.stdout).prompt
        assert (prompt.instruction, prompt.input) == ("Summarise this.", expected)


@pytest.mark.slow
def test_a_pipe_that_stays_silent_is_said_to_be_waited_for() -> None:
    with verbs.start(
        "ask", "Go.", "-m", verbs.script("one"), "--max-revisions", "0", stdin=subprocess.PIPE
    ) as child:
        assert child.stderr
        said = child.stderr.readline() + child.stderr.readline()
        out, _ = child.communicate("late\n", timeout=60)
    assert "waiting for text from the pipe." in said
    assert "redraft ask … < /dev/null" in said
    assert (out, child.returncode) == ("one\n", 0)


def test_a_prompt_without_quotes_is_told_to_get_some() -> None:
    done = ask("Describe", "rain", 'in "one"', "$line", "-m", verbs.script("one"))
    verbs.refused(done, "the prompt is 4 arguments", 'redraft ask "Describe rain in \\"one\\" \\$line"')
    verbs.refused(verbs.redraft("checks", "At", "most"), 'redraft checks "At most"')
    verbs.refused(verbs.redraft("checks", ""), "the prompt is empty.", "redraft checks")


def test_a_prompt_without_demands_gives_no_checks() -> None:
    done = verbs.redraft("checks", "Hello.")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "redraft: no demand was found in this prompt. redraft reads only English demands.\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--check", "word<=50"], "no check is called 'word'. Did you mean 'words'?"),
        (["--check", "matches:("], ""),
        (["--budget-usd", "1"], "a limit of 1.0 USD needs the price of the model"),
        (
            ["--min-revisions", "3", "--max-revisions", "1"],
            "the minimum of 3 revisions is above the maximum of 1",
        ),
        (["--max-revisions", "two"], "--max-revisions is 'two'.\n  It should be a whole number, such as 5."),
        (["--mode", "foo"], "--mode is 'foo'.\n  It should be auto, native, prompted"),
        (["--mode", "verified"], "mode 'verified' needs checks, but none were given."),
        (["--mode", "verified", "-c", "json", "--critic", "default"], "mode 'verified' has no critic"),
    ],
)
def test_wrong_usage_is_said_before_the_model_is_opened(args: list[str], message: str) -> None:
    done = ask("Go.", "-m", "script:nowhere.jsonl", *args)
    assert (done.stdout, done.exit_code) == ("", 2)
    assert done.stderr.startswith(f"redraft: {message}")


def test_an_empty_prompt_and_words_that_are_no_flags_are_status_2() -> None:
    empty = ask("  \n ", "-m", verbs.script("one"))
    assert (empty.stdout, empty.exit_code) == ("", 2)
    assert empty.stderr == 'redraft: the prompt is empty.\n  redraft ask "Describe a lighthouse."\n'
    assert "redraft: no such option: --temprature" in ask("Go.", "--temprature", "1").stderr
    both = (
        verbs.redraft("data", "dedupe", "x", "--by", "foo").stderr,
        verbs.redraft("serve", "--port", "-1").stderr,
    )
    refused = "redraft: --by is 'foo'.\n  It should be exact, query, rouge or minhash.\n"
    assert both == (refused, "redraft: --port is '-1'.\n  It should be at least 0.\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        ([], b"caf\xe9", "the prompt has a lone surrogate (half a character): "),
        ([b"Go.", b"-c", b"contains:\xe9"], b"", "the check 'contains:\\udce9' has a lone surrogate"),
    ],
)
def test_what_is_not_utf8_is_refused(args: list[bytes], stdin: bytes, said: str) -> None:
    command = [*verbs.REDRAFT, "ask", "-m", verbs.script("one"), "--json", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert done.stderr.decode().startswith(f"redraft: {said}")


def test_engine_trouble_is_status_3_and_keeps_what_there_is() -> None:
    model = verbs.script("First.", {"text": "Half a", "error": "the line went dead"})
    done = ask("Go.", "-m", model)
    assert (done.stdout, done.stderr, done.exit_code) == ("First.\n", "redraft: the line went dead\n", 3)
    done = ask("Go.", "-m", model, "--json")
    chain = Chain.from_json(done.stdout)
    assert (chain.answer, chain.stop, done.exit_code) == ("First.", "error", 3)


EVIL = "red \x1b[31m \x9b1m"


def test_in_a_pipe_an_answer_stays_as_it_is() -> None:
    assert ask("Go.", "-m", verbs.script(EVIL), "--max-revisions", "0").stdout == EVIL + "\n"


@pytest.mark.slow
def test_a_terminal_sees_a_clock_until_the_model_writes() -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m")).on(CHAT, Reply(pieces=[1.2, "data: [DONE]\n\n"]))
        shown = on_a_terminal("Go.", "-m", server.url, "--max-revisions", "0")
    assert "Connecting to the model … 0 s" in shown
    assert "Waiting for the model … 1 s" in shown


def test_on_a_terminal_the_answer_comes_last_and_breaks_between_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    long = "favourite " * 8 + "food"
    wrapped = long.replace("food", "\r\nfood")
    args = ("Go.", "-m", verbs.script(f"{long} sea", long), "-c", "lacks:sea")
    shown = on_a_terminal(*args)
    assert shown.endswith(f"\r\n\r\n{wrapped}\r\n")
    assert ("Answer: " in shown, "[- sea-]" in shown) == (True, False)
    assert "[- sea-]" in on_a_terminal(*args, "--steps")
    shown = on_a_terminal("Go.", "-m", verbs.script(long), "-c", "lacks:sea", "--steps")
    assert "food" not in shown[-100:], "the only text is not repeated"
    shown = on_a_terminal(*args[:-1], "words<=1", "--no-steer", "--max-revisions", "0")
    assert shown.endswith("\r\nredraft: the answer fails its check.\r\n")
    shown = on_a_terminal(*args[:-1], "auto")
    assert ("from the prompt: none" in shown, "nothing was checked" in shown) == (True, False)


def test_a_terminal_names_the_demands_that_nothing_checked_unless_quiet_or_json() -> None:
    go = ("Go in at most 5 words.", "-m", verbs.script("one"), "--max-revisions", "0")
    hint = "redraft: the prompt seems to ask for words<=5. To check it: --check auto"
    assert on_a_terminal(*go).endswith(f"\r\n\r\none\r\n{hint}\r\n")
    assert on_a_terminal(*go, "--quiet") == "one\r\n"
    assert (hint in on_a_terminal(*go, "--json"), ask(*go).stderr) == (False, "")


SLOW = """\
import time


def slow(answer):
    print("begun", flush=True)
    time.sleep(9)
    return True
"""


@pytest.mark.slow
def test_what_is_said_after_ctrl_c_has_a_line_of_its_own() -> None:
    slow = verbs.script({"text": "One two three.", "stall": 60})
    assert "stopped" in on_a_terminal("Go.", "-m", slow, stop_at="three.")
    Path("slow_rules.py").write_text(SLOW)
    args = ("Go.", "-m", verbs.script("One."), "-c", "python:slow_rules.slow", "-q")
    assert "^C\r\nOne.\r\n" in on_a_terminal(*args, stop_at="begun\r\n")


CHAT = "POST /v1/chat/completions"


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["draft", "check"])
def test_ctrl_c_keeps_what_there_is_and_is_status_130(phase: str) -> None:
    half, begun = sse_reply(chat_event("Half"), 600.0), Path("begun")
    args = ["--check", f"command:sh -c 'touch {begun}; sleep 60'"] if phase == "check" else []
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m")).on(CHAT, chat_reply("First.") if args else half)
        with verbs.start("ask", "Go.", "-m", server.url, "--json", *args) as child:
            verbs.wait_until(begun.exists if args else lambda: server.asked(CHAT))
            verbs.wait_until_it_waits(child)  # it has read the piece of text
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=30)
    said = "this is the best answer so far" if args else "the answer is incomplete"
    assert (child.returncode, err) == (130, f"redraft: stopped: {said}.\n")
    chain = Chain.from_json(out)
    assert (chain.stop, chain.answer) == ("cancelled", "First." if args else "Half")


def test_ctrl_c_before_the_model_is_there() -> None:
    prompt, end = os.pipe()
    child = verbs.start("ask", "-m", verbs.script("x"), stdin=prompt)
    os.write(end, b"Describe")
    verbs.wait_until(lambda: not select.select([prompt], [], [], 0)[0])
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    os.close(prompt)
    os.close(end)
    assert child.returncode == 130
    assert "Traceback" not in err


def test_config_recipe_and_flag_in_that_order() -> None:
    Path("config.toml").write_text('[defaults]\ntemperature = 0.1\nmax_revisions = 0\nsystem = "config"\n')
    recipe = "about: mine\nsystem: recipe\ntop-p: 1\ntemperature: 0.2\ncheck: ['words<=9']\n"
    Path("mine.yaml").write_text(recipe)
    words = ("-m", verbs.script("one"), "--recipe", "mine.yaml", "--temperature", "0.3", "--json")
    chain = Chain.from_json(ask("Go.", *words, REDRAFT_CONFIG="config.toml").stdout)
    assert (chain.sampling["temperature"], chain.sampling["top_p"], chain.stop) == (0.3, 1.0, "passed")


def test_every_shipped_recipe_runs() -> None:
    from redraft.cli import options

    shipped = sorted(path.stem for path in (Path(options.__file__).parent.parent / "recipes").glob("*.yaml"))
    assert shipped
    for name in shipped:
        done = ask("Go.", "-m", verbs.script('{"a": 1}'), "--recipe", name, "--json")
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
        (["--budget-seconds", "0.5", "-c", "command:sleep 30"], 1, "redraft: the chain ended before the"),
        (["-c", "auto"], 0, "redraft: nothing was checked: no demand was found in this prompt."),
    ],
)
def test_what_is_not_whole_is_said_in_a_pipe(args: list[str], status: int, said: str) -> None:
    done = ask("Go.", "-m", verbs.script("one two three"), *args)
    assert done.exit_code == status
    assert said in done.stderr


LOUD = """\
import subprocess
import time
import sys

print("on import")


def quiet(answer):
    print("a print")
    sys.stdout.write("a write\\n")
    subprocess.run(["echo", "a program"], check=True)
    return True
"""


@pytest.mark.slow
def test_what_a_check_prints_does_not_get_into_the_answer() -> None:
    Path("loud_rules.py").write_text(LOUD)
    command = [*verbs.REDRAFT, "ask", "Hi", "-m", verbs.script("A gull."), "-c", "python:loud_rules.quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "A gull.\n")
    for said in ("on import", "a print", "a write", "a program"):
        assert said in done.stderr


def test_a_warning_of_the_library_looks_like_the_commands_own_messages(tmp_path: Path) -> None:
    model = verbs.script("Hello.", name=str(tmp_path / "replies"))
    with verbs.start("ask", "Hi.", "-m", model, "-c", "tool:pay.amount<=100") as child:
        said = child.communicate()[1]
    assert said.startswith("redraft: the check 'tool:pay.amount<=100' is about an unknown tool")
