"""Reads the code blocks of a Markdown page, with the file names and comments before them, which tests follow.

The convention is in CONTRIBUTING.md. Indented blocks and blocks in lists are not read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

DIRECTIVES = ("no test", "model", "shared", "sandbox", "replies", "exit", "serve", "output")
SHELL = ("console", "sh", "bash")
_BLOCK = re.compile(
    r"(?:`(?P<file>[\w./-]+\.\w+)`:\n+)?"
    r"(?P<before>(?:^<!--(?:(?!-->).)*-->\n+)*)^```(?P<language>[\w-]*)\n(?P<body>.*?)^```$",
    re.M | re.S,
)
_COMMENT = re.compile(r"<!--\s*(?P<name>[\w ]+?)\s*(?::\s*(?P<value>.*?))?\s*-->", re.S)


@dataclass(frozen=True)
class Command:
    """A line typed in a shell, and what it printed according to the page ('' where the page does not say)."""

    line: str
    output: str = ""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    where: str  # the page and line of the fence, for messages
    language: str
    body: str
    directives: dict[str, str] = field(default_factory=dict)  # the comments right before the block
    file: str | None = None  # the file's name, which ends the line before the block, as in "`rules.py`:"

    @property
    def commands(self) -> list[Command]:
        if self.language != "console":
            lines = self.body.replace("\\\n", "").splitlines()
            return [Command(line) for line in lines if line.strip() and not line.startswith("#")]
        return [_command(part) for part in re.split(r"^\$ ", self.body, flags=re.M)[1:]]

    @property
    def runs(self) -> bool:
        if "no test" in self.directives:
            return False
        calls = any(re.search(r"\b(redraft|curl)\b", command.line) for command in self.commands)
        return self.language in ("python", "js") or (self.language in SHELL and calls)

    @property
    def compared(self) -> bool:
        return self.directives.get("model", "exact") == "exact"

    @property
    def replies(self) -> list[str]:
        return [str(reply) for reply in json.loads(self.directives["replies"])]


def _command(part: str) -> Command:
    found = re.match(r"(?P<line>(?:.*\\\n)*.*)\n?(?P<output>[\s\S]*)", part)
    assert found
    return Command(found["line"].replace("\\\n", ""), found["output"])


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in _BLOCK.finditer(text):
        where = f"{page.name}:{text.count(chr(10), 0, found.start('language')) + 1}"
        comments = [(c["name"], c["value"] or "") for c in _COMMENT.finditer(found["before"])]
        unknown = [name for name, _ in comments if name not in DIRECTIVES]
        assert not unknown, f"{where}: unknown comment {unknown}; known: {DIRECTIVES}"
        assert ("no test", "") not in comments, f"{where}: say why: <!-- no test: reason -->"
        file = None if found["language"] in SHELL else found["file"]
        blocks.append(Block(where, found["language"], found["body"], dict(comments), file))
    return blocks


def matches(printed: str, shown: str) -> bool:
    pieces = re.split(r"^…\n?", shown.strip() + "\n", flags=re.M)
    pattern = r"(?:.*\n)*?".join(map(re.escape, pieces))
    plain = "".join(line.rstrip() + "\n" for line in printed.strip().splitlines())
    return re.fullmatch(pattern, plain) is not None
