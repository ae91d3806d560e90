"""What a shell completes: values of options and arguments, as bash and zsh ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.verbs import redraft


def completed(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    asked = {"_REDRAFT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return redraft(**asked).output.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("redraft ask --mode rep", ["repair"]),
        ("redraft ask --dtype ", ["float32", "bfloat16", "float16"]),
        ("redraft ask --prompts t", ["task", "teacher"]),
        ("redraft ask --recipe ", ["json", "short"]),
        ("redraft ask --critic d", ["default", "deepseek:"]),
        ("redraft ask -c wor", ["words\\<=50"]),
        ("redraft serve -c json", ["json", "json-schema:"]),
        ("redraft eval g", ["gsm8k"]),
        ("redraft diagnose --run gs", ["gsm8k"]),
        ("redraft diagnose --score len", []),
        ("redraft model get me", ["medium"]),
        ("redraft help dia", ["diagnose"]),
    ],
)
def test_values_are_offered(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_zsh_quotes_by_itself_and_shows_what_values_are() -> None:
    said = redraft(_REDRAFT_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="redraft ask -c wor").output
    assert '"words<=50":"count of words' in said


def test_servers_of_the_config_file_are_offered() -> None:
    Path("c.toml").write_text('[servers]\nlab = "http://localhost:9/v1"\n')
    line = "redraft chat -m la"
    asked = {"_REDRAFT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    assert redraft(REDRAFT_CONFIG="c.toml", **asked).output.split() == ["large", "lab:"]
