"""Separate a model's thoughts in tags from the answer.

`<think>hm</think>Rain.` is the answer "Rain." with the reasoning "hm". Engines split streamed text
(`Splitter`), and a `Step` splits a whole text (`apart`). A tag is recognised only at the start of a line and
outside code fences, so prose about tags is kept. `PAIRS` lists the tags of many models. `tags_of` adds the
tags around the reasoning in a chat template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

Pairs = tuple[tuple[str, str], ...]

_NAMES = ("think", "thinking", "thought", "Thought", "reasoning", "seed:think")
"""Tags of DeepSeek, Qwen, EXAONE, Marco-o1, Reka, Seed and others."""
_FINAL = "<|channel|>final<|message|>"
PAIRS: Pairs = (
    *((f"<{name}>", f"</{name}>") for name in _NAMES),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|im_start|>think", "<|im_start|>answer"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel|>commentary", "<|end|>"),
    ("<|start|>assistant", ""),
    (_FINAL, ""),
    ("<|begin_of_solution|>", ""),
    ("<|end_of_solution|>", ""),
)
"""Pairs of tags that open and close a thought. A tag paired with "" begins or ends an answer."""

_TAG = re.compile("|".join(re.escape(tag) for pair in PAIRS for tag in pair if tag))
OPENING = tuple(opens for opens, _ in PAIRS)
_FENCES = ("```", "~~~")
_LONGEST = 64  # characters, more than any tag has
_SPACE = re.compile(r"\s*")
ENDS = (">", "]", "▷")  # every tag ends in one of these, so a text without them has no tags
_BARE = re.compile(r"\s*analysis(?=\S)(.*?)assistantfinal(.*)", re.DOTALL)
"""Matches Harmony's channels in a text whose control tokens the server left out."""

_GOES_ON = re.compile(r"[ \t]*[,.;:)`'\"]|[ \t]+[a-z]")
"""Matches the text after a tag, such as a comma, that shows that a sentence only mentions the tag."""

_NAMED = re.compile(
    r"""(<[^<>\s'"{}]{1,40}>|\[[A-Z_]{1,40}\])(?:\\n|\s)*(?:['"]\s*[+~]\s*|-?%}|\{\{-?)"""
    r"""[^<>]{0,80}?(?:reason|think|thought)[^<>\[]{0,80}?"""
    r"""(<[^<>\s'"{}]{1,40}>|\[/[A-Z_]{1,40}\])"""
)
"""Matches, in a chat template, the tags before and after a variable for the reasoning."""

_TOKEN = re.compile(r"<[^<>]+>|\[[^\[\]]+\]|◁[^◁▷]+▷")


class Tags(NamedTuple):
    """A model's tags for thoughts. `written` lists the tags that occur in the model's chat template."""

    pairs: Pairs = PAIRS
    written: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Parts of the thought tags that may be control tokens, which decoding must keep."""
        return tuple(dict.fromkeys(found[0] for tag in self.written for found in _TOKEN.finditer(tag)))

    @property
    def final(self) -> str:
        """The tag that begins an answer in Harmony, gpt-oss's format, or an empty text for other models."""
        return _FINAL if _FINAL in self.written else ""

    def opened(self, prompt: str) -> str:
        """Return the tag that closes a thought opened at the end of the prompt, or an empty text."""
        end = prompt.rstrip()
        return next((close for start, close in self.pairs if close and end.endswith(start)), "")


def tags_of(template: str) -> Tags:
    """Return the thought tags of a model, given the Jinja source of the model's chat template."""
    named = tuple((start, close) for start, close in _NAMED.findall(template) if "/" not in start)
    pairs = (*PAIRS, *(pair for pair in dict.fromkeys(named) if pair not in PAIRS))
    return Tags(pairs, tuple(tag for pair in pairs for tag in pair if tag and tag in template))


@dataclass
class Splitter:
    """Split a text that arrives in pieces into thoughts and an answer.

    `until` is the closing tag of a thought that began in the prompt.
    """

    pairs: Pairs = PAIRS
    until: str = ""
    _held: str = ""
    _blanks: list[str] = field(default_factory=list)  # white space held back at the beginning of a line
    _at: int = 0
    _fresh: bool = True  # whether the current line has only white space so far
    _fenced: bool = False
    _thought: bool = False
    _answered: bool = False

    def add(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """Return the thoughts and the answer in the next piece, holding back the possible start of a tag."""
        if self._fresh and not (last or self.until or self._held or text.strip()):
            self._blanks.append(text)  # a model in a loop writes thousands of line breaks
            return "", ""
        self._held, self._blanks = "".join([*self._blanks, self._held, text]), []
        thoughts: list[str] = []
        answers: list[str] = []
        before, self._at = -1, 0
        while before != self._at < len(self._held):
            before = self._at
            texts, read = (thoughts, self._think) if self.until else (answers, self._answer)
            texts.append(read(last=last))
        self._held = self._held[self._at :]
        if self._held.isspace() and not self.until:
            self._blanks, self._held = [self._held], ""
        return "".join(thoughts), "".join(answers)

    def _think(self, *, last: bool) -> str:
        start, end = self._at, self._held.find(self.until, self._at)
        if end >= 0:
            self._at, self.until, self._thought = end + len(self.until), "", True
        else:
            sizes = range(0 if last else min(len(self._held) - start, len(self.until) - 1), 0, -1)
            begun = next((size for size in sizes if self._held.endswith(self.until[:size])), 0)
            end = self._at = len(self._held) - begun
        return self._held[start:end]

    def _answer(self, *, last: bool) -> str:
        start = line = self._at
        if self._fresh:
            line = _SPACE.match(self._held, start).end()  # type: ignore[union-attr]
            found = next((pair for pair in self.pairs if self._held.startswith(pair[0], line)), None)
            if found and not self._fenced:
                self._at, self.until, self._thought = line + len(found[0]), found[1], True
                return ""
            left = self._held[line : line + _LONGEST]
            begins = (*_FENCES, *(tag for tag, _ in self.pairs))
            if not last and any(tag.startswith(left) for tag in begins):
                return ""
            self._fenced ^= left.startswith(_FENCES)
        self._at = self._held.find("\n", line) + 1 or len(self._held)
        self._fresh = self._held[self._at - 1] == "\n"
        whole = self._held[start : self._at]
        if self._thought and not self._answered:
            whole = whole.lstrip()
        self._answered = self._answered or bool(whole)
        return whole


def apart(text: str) -> tuple[str, str]:
    """Return the thoughts and the answer in a whole text.

    If the first tag closes a thought, all text before the tag is the thought.
    """
    if bare := _BARE.fullmatch(text):
        return bare[1].strip(), bare[2].strip()
    if not _TAG.search(text):
        return "", text
    thoughts, answer = Splitter(until=opened_before(text)).add(text, last=True)
    return thoughts.strip(), answer.removesuffix("<|return|>") if thoughts else answer


def opened_before(text: str) -> str:
    """Return the closing tag of a thought that began before the text, or ""."""
    for start, close in PAIRS[:13]:  # the closing tags of the others end more than thoughts
        at = text.find(close)
        if at < 0 or start in text[:at] or text[:at].count("```") % 2:
            continue
        quoted = text[at - 1 : at] in tuple("`'\"“‘(")
        if not (quoted or _GOES_ON.match(text, at + len(close))):
            return close
    return ""


def together(reasoning: str, answer: str) -> str:
    """Return the reasoning in `<think>` tags, then the answer."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer
