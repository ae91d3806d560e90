"""Tell what a model thinks, in tags inside its text, from its answer.

`<think>hm</think>Rain.` is the answer "Rain." with the reasoning "hm". Engines split while a text streams
(`Splitter`), and a `Step` splits what it is made of (`apart`). A tag counts at the beginning of a line and
outside fences, so prose about tags stays. The tags are those of DeepSeek, Qwen, Mistral, Kimi, Seed, Cohere,
Gemma and harmony's channels, and those around the reasoning in a model's own template (`tags_of`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

Pairs = tuple[tuple[str, str], ...]

PAIRS: Pairs = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel|>commentary", "<|end|>"),
    ("<|start|>assistant", ""),
    ("<|channel|>final<|message|>", ""),
)
"""What opens a thought and what closes it. What closes at once only goes before an answer."""

_FENCES = ("```", "~~~")
_MAYBE = re.compile("think|thought|THINK|<[|]|assistantfinal")
_BARE = re.compile(r"\s*analysis(?=\S)(.*?)assistantfinal(.*)", re.DOTALL)
"""Harmony's channels, from a server that leaves out control tokens."""

_NAMED = re.compile(
    r"""(<[^<>\s'"{}]{1,40}>|\[[A-Z_]{1,40}\])(?:\\n|\s)*(?:['"]\s*[+~]\s*|-?%}|\{\{-?)"""
    r"""[^<>]{0,80}?(?:reason|think|thought)[^<>\[]{0,80}?"""
    r"""(<[^<>\s'"{}]{1,40}>|\[/[A-Z_]{1,40}\])"""
)
"""In a template: a tag, a variable with the reasoning, and the tag behind it."""


_TOKEN = re.compile(r"<[^<>]+>|\[[^\[\]]+\]|◁[^◁▷]+▷")


class Tags(NamedTuple):
    """The tags of a model, and those of them that its template writes."""

    pairs: Pairs = PAIRS
    written: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """What may be control tokens in them, which a decoder has to write out."""
        return tuple(dict.fromkeys(found[0] for tag in self.written for found in _TOKEN.finditer(tag)))

    def opened(self, prompt: str) -> str:
        """Return what closes the thought that a prompt ends in; empty if it ends in none."""
        end = prompt.rstrip()
        return next((close for start, close in self.pairs if close and end.endswith(start)), "")


def tags_of(template: str) -> Tags:
    """Return the tags of a model by its chat template, a Jinja source."""
    named = tuple((start, close) for start, close in _NAMED.findall(template) if "/" not in start)
    pairs = (*PAIRS, *(pair for pair in dict.fromkeys(named) if pair not in PAIRS))
    return Tags(pairs, tuple(tag for pair in pairs for tag in pair if tag and tag in template))


@dataclass
class Splitter:
    """Split a text that comes in pieces into thoughts and an answer.

    `until` is what closes the thought under way, if the prompt has opened one.
    """

    pairs: Pairs = PAIRS
    until: str = ""
    _held: str = ""
    _fresh: bool = True  # whether only white space stands on the line so far
    _fenced: bool = False
    _thought: bool = False
    _answered: bool = False

    def __post_init__(self) -> None:
        self._thought = bool(self.until)

    def add(self, text: str) -> tuple[str, str]:
        """Return what is now certain: of thoughts, and of the answer. The rest may become a tag."""
        self._held += text
        return self._taken(last=False)

    def end(self) -> tuple[str, str]:
        """Return the rest at the end of the text."""
        return self._taken(last=True)

    def _taken(self, *, last: bool) -> tuple[str, str]:
        thoughts, answers = "", ""
        while self._held:
            size = len(self._held)
            if self.until:
                thoughts += self._think(last=last)
            else:
                answers += self._answer(last=last)
            if len(self._held) == size:
                break
        return thoughts, answers

    def _think(self, *, last: bool) -> str:
        text, _, rest = self._held.partition(self.until)
        if len(text) < len(self._held):
            self._held, self.until = rest, ""
            return text
        kept = 0 if last else _begun(text, self.until)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def _answer(self, *, last: bool) -> str:
        line = self._held.lstrip() if self._fresh else self._held
        if self._fresh:
            found = next((pair for pair in self.pairs if line.startswith(pair[0])), None)
            if found and not self._fenced:
                self._held, self.until, self._thought = line[len(found[0]) :], found[1], True
                return ""
            if not last and any(
                tag.startswith(line) for tag in (*_FENCES, *(pair[0] for pair in self.pairs))
            ):
                return ""
            self._fenced ^= line.startswith(_FENCES)
        text, end, rest = line.partition("\n")
        space = self._held[: len(self._held) - len(line)]
        self._held, self._fresh = rest, bool(end)
        whole = space + text + end
        if self._thought and not self._answered:
            whole = whole.lstrip()
        self._answered = self._answered or bool(whole)
        return whole


def _begun(text: str, tag: str) -> int:
    """Return how many characters at the end of a text may begin a tag."""
    sizes = range(min(len(text), len(tag) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(tag[:size])), 0)


def apart(text: str) -> tuple[str, str]:
    """Return the thoughts in a whole text, and its answer. Without thoughts, the text is the answer.

    A tag may also close a thought that the prompt opened: then all before it is thought.
    """
    if not _MAYBE.search(text):
        return "", text
    if bare := _BARE.fullmatch(text):
        return bare[1].strip(), bare[2].strip()
    opened = _opened_before(text)
    splitter = Splitter(until=opened)
    pieces = (splitter.add(text), splitter.end())
    thoughts, answer = ("".join(each) for each in zip(*pieces, strict=True))
    return thoughts.strip(), answer.removesuffix("<|return|>") if thoughts else answer


def _opened_before(text: str) -> str:
    """Return the tag in a text that closes a thought which nothing in the text opens; empty without one.

    In code, in quotation marks and within a sentence a tag is spoken of.
    """
    for start, close in PAIRS[:8]:
        at = text.find(close)
        if at < 0 or start in text[:at] or text[:at].count("```") % 2:
            continue
        after = text[at + len(close) :]
        if text[at - 1 : at] not in tuple("`'\"“‘(") and not re.match(
            r"[ \t]*[,.;:)`'\"]|[ \t]+[a-z]", after
        ):
            return close
    return ""


def together(reasoning: str, answer: str) -> str:
    """Return an answer with its reasoning before it, in the tags that most models know."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer
