"""Lines of an answer: bullets, items of lists and headings of Markdown are counted, and repeats found.

A line within a code fence is none of the three: `# x` is a comment there. What a line counts as never changes
when more follows, so that counts only grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

import regex

from redraft.chain import Prompt
from redraft.checks.base import Outcome, Prospect, failed, passed
from redraft.checks.segment import unix
from redraft.engines.steering.form import Form

_FENCE = regex.compile(r"\s*(`{3,}|~{3,})(.*)")
_BULLET = regex.compile(r"\s*(?:[-*+–]\s+|[•‣◦▪●]\s*)(?=.*[^\s\-*_+–])")  # no rule such as `* * *`
_NUMBERED = regex.compile(r"\s*(?:\*\*|__)?\d{1,3}[.)](?:\*\*|__)?\s+\S")
_HEADING = regex.compile(r"\s*#{1,6}\s+\S")
_MARK = regex.compile(r"\s*(?:(?:[-*+–]|#{1,6}|(?:\*\*|__)?\d{1,3}[.)](?:\*\*|__)?)\s+|[•‣◦▪●]\s*)*")
_OTHER = {"uppercase": regex.compile(r"\p{Ll}"), "lowercase": regex.compile(r"\p{Lu}")}
"""Name -> a letter of the other case."""
_CASED = regex.compile(r"[\p{Ll}\p{Lu}]")
_SAYS = regex.compile(r"[\p{L}\p{N}]")


def bullets(text: str) -> int:
    """Count the lines that begin with a bullet: `-`, `*`, `+`, `–` with a space after it, or `•`."""
    return sum(bool(_BULLET.match(line)) for line in _outside_fences(text))


def items(text: str) -> int:
    """Count bullets and the lines that begin with a number: `1.` or `1)`."""
    return sum(bool(_BULLET.match(line) or _NUMBERED.match(line)) for line in _outside_fences(text))


def headings(text: str) -> int:
    """Count the lines that begin with one to six `#` and a space."""
    return sum(bool(_HEADING.match(line)) for line in _outside_fences(text))


def lines(text: str) -> int:
    """Count the lines that are not empty."""
    return sum(bool(line.strip()) for line in unix(text).split("\n"))


def _outside_fences(text: str) -> Iterator[str]:
    fence = ""
    for line in unix(text).split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark and "`" not in mark[2]:
            fence = mark[1]
        else:
            yield line


@dataclass(frozen=True)
class Unique:
    """`unique`: no line comes twice. Case, spacing and the marks of lists and headings make no difference.

    Lines without a letter or digit do not count.
    """

    name: str = field(default="unique", init=False)
    demand: str = field(default="Write no line twice.", init=False, repr=False)

    def prefix(self, text: str) -> Prospect:
        """Lost once a line has come twice."""
        complete = unix(text).rpartition("\n")[0]
        return "lost" if next(_repeats(complete), None) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if no line comes twice. A miss scores 1/2 for one repeat, 1/3 for two, and so on."""
        found = list(_repeats(answer))
        if not found:
            return passed("No line comes twice.")
        named = ", ".join(
            f'{again} ("{line[:40].rstrip()}", as line {first})' for first, again, line in found[:3]
        )
        more = f", and {len(found) - 3} more" if len(found) > 3 else ""
        one = len(found) == 1
        message = f"{'This line comes' if one else 'These lines come'} a second time: {named}{more}."
        return failed(message, score=1 / (1 + len(found)))


@dataclass(frozen=True)
class Case:
    """`uppercase`: no letter is small; `lowercase`: none is a capital. Letters without case do not count."""

    name: Literal["uppercase", "lowercase"]

    @classmethod
    def upper(cls) -> Self:
        """Return `uppercase`."""
        return cls("uppercase")

    @classmethod
    def lower(cls) -> Self:
        """Return `lowercase`."""
        return cls("lowercase")

    @property
    def demand(self) -> str:
        """The demand."""
        return f"Write in {'capital' if self.name == 'uppercase' else 'small'} letters only."

    @property
    def form(self) -> Form:
        """The case of all letters."""
        return Form(case="upper" if self.name == "uppercase" else "lower")

    def prefix(self, text: str) -> Prospect:
        """Lost with the first letter of the other case."""
        return "lost" if _OTHER[self.name].search(text) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if no letter has the other case. A miss scores the share of letters that are right."""
        wrong = list(_OTHER[self.name].finditer(answer))
        if not wrong:
            return passed(f"All letters are {self.name}.")
        word = next(word for word in answer.split() if _OTHER[self.name].search(word))
        return failed(
            f'"{word[:40]}" is not {self.name}.', score=1 - len(wrong) / len(_CASED.findall(answer))
        )


def _repeats(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the number of a line, that of its repeat, and the line."""
    seen: dict[str, int] = {}
    for number, line in enumerate(unix(text).split("\n"), start=1):
        said = " ".join(_MARK.sub("", line, count=1).casefold().split())
        if not _SAYS.search(said):
            continue
        first = seen.setdefault(said, number)
        if first != number:
            yield first, number, line.strip()
