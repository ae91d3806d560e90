"""Define the cleaning rules, in the order of application.

A rule returns the chain, perhaps changed, or a reason to drop it. Rules that choose turns or repair texts
come before rules that only drop. Question words are recognised in English, question marks in many scripts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import regex

from redraft.chain import Chain, is_blank
from redraft.chain.texts import FOLLOWS, Turn, answer_of, gold_answers, shows, turns_of, with_turns
from redraft.checks.language import READ, language_of
from redraft.data.html_evidence import Evidence
from redraft.data.texts import GOLD, generated, leaking, spoken_texts, with_texts


@dataclass(frozen=True)
class WordList:
    """A list of blocked words. Case is ignored."""

    name: str
    pattern: Any  # of the package regex
    words: Sequence[str]  # a fast check: `pattern` matches no text without any of these
    asked_only: bool = False  # search the first question only

    def find(self, text: str) -> str | None:
        """Return the first match, or None."""
        found = any(map((folded := text.casefold()).__contains__, self.words)) and self.pattern.search(folded)
        return str(found[0]) if found else None


FASTCHAT = WordList("fastchat", regex.compile("openai|chatgpt"), ("openai", "chatgpt"))
"""Strings that no turn may contain, even inside a word, from FastChat's `data/clean_sharegpt.py`."""


_ALPACA = """
    image images graph graphs picture pictures file files map maps draw plot video audio music flowchart
    diagram
"""
_WORDS = (*_ALPACA.split(), "go to")
ALPACA = WordList("alpaca", regex.compile(r"(?<!\w)\L<words>(?!\w)", words=_WORDS), _WORDS, asked_only=True)
"""Words that show that an instruction needs more than text, from Alpaca's `generate_instruction.py`."""

LISTS = {words.name: words for words in (FASTCHAT, ALPACA)}

_SHORT = 16  # fewest characters of a conversation to keep (FastChat's `clean_sharegpt.py`)
TURN = 100  # characters of each turn in which to detect the language: questions and answers count alike


@dataclass(frozen=True)
class RuleSettings:
    """The languages to keep, as ISO 639 codes, and the lists of blocked words."""

    languages: frozenset[str] = frozenset()
    blocked: tuple[WordList, ...] = ()


_Outcome = Chain | str  # the chain, changed or not, or the reason to drop it


class _Rule(NamedTuple):
    name: str
    apply: Callable[[Chain, Sequence[Turn], RuleSettings], _Outcome]  # gets a chain and its `answered_turns`
    usual: bool = False


_ESCAPES = re.compile(r"\x1b\[[0-?]*+[ -/]*+[@-~]")
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")


def without_controls(text: str) -> str:
    """Turn all line breaks into line feeds, and remove control characters except tabs."""
    if text.isprintable() or text.replace("\n", "").isprintable():
        return text
    return _CONTROL.sub("", _ESCAPES.sub("", _BREAKS.sub("\n", text)))


def _html(chain: Chain, *_: Any) -> _Outcome:
    texts = spoken_texts(chain)
    asked, answers = ([text for by, text in texts if by == one] for one in ("user", "assistant"))
    evidence = Evidence.of(asked, answers)
    return with_texts(chain, evidence.convert) if evidence.pages else chain


_COUNTED = re.compile(r"Copy\d+ chars / \d+ words")
_HEADED = re.compile(r"^(`{3,}+)[ \t]*\n?([\w+#.-]{1,24}?)\n?(?:Copy code)+[ \t]*\n?", re.M)
_BARE_HEADED = re.compile(r"^(`{3,}+)[ \t]*\n?(?:Copy code)+[ \t]*\n", re.M)


def without_residue(text: str) -> str:
    """Remove leftovers of ChatGPT's buttons, such as `pythonCopy code` above a code block."""
    if "Copy" not in text:
        return text
    text = _HEADED.sub(r"\1\2\n", _COUNTED.sub("", text))
    return _BARE_HEADED.sub(r"\1\n", text)


def _roles(chain: Chain, turns: Sequence[Turn], _: RuleSettings) -> _Outcome:
    # A gold answer counts as the assistant's last turn, and is dropped if its question is cut off.
    if chain.prompt.messages is None:
        return chain
    turns = turns if chain.steps else turns_of(chain)
    head = [turn for turn in turns[:1] if turn.role == "system"]
    rest = list(turns[len(head) :])
    if [turn.role for turn in rest] == ["user"]:  # a question alone
        return chain
    while rest and rest[0].role in ("assistant", "tool"):
        del rest[0]
    if not (ended := rest if gold_answers(chain) and not chain.steps else _up_to_answer(rest)):
        return "no answered question"
    before = ""
    for turn in ended:
        if turn.role not in FOLLOWS[before]:
            return f"the {turn.role} speaks where the {FOLLOWS[before][0]} should: {turn.text.strip()[:40]!r}"
        before = turn.role
    return with_turns(chain if len(ended) == len(rest) else _without_gold(chain), [*head, *ended])


def _up_to_answer(turns: list[Turn]) -> list[Turn]:
    end = len(turns)
    while end and turns[end - 1].role in ("user", "tool"):
        if turns[end - 1].role == "tool":  # the question before the call has no answer yet
            while end and turns[end - 1].role != "user":
                end -= 1
        else:
            end -= 1
    return turns[:end]


def _without_gold(chain: Chain) -> Chain:
    meta = {name: value for name, value in chain.meta.items() if name not in GOLD}
    return chain.model_copy(update={"meta": meta})


def _first_pair(chain: Chain, *_: Any) -> _Outcome:
    turns = turns_of(chain)
    if (first := next((i for i, turn in enumerate(turns) if turn.role == "user"), None)) is None:
        return "no question"
    if first + 1 < len(turns) and turns[first + 1].role != "assistant":
        return "the first question is not answered"
    end = first + 2
    while end < len(turns) and "tool" in (turns[end].role, turns[end - 1].role):
        end += 1
    if end < len(turns):  # steps and gold answers belong to the last answer
        chain = _without_gold(chain).model_copy(update={"steps": (), "best": None, "stop": None})
    return with_turns(chain, [turn for turn in turns[:first] if turn.role == "system"] + [*turns[first:end]])


def _empty(chain: Chain, turns: Sequence[Turn], _: RuleSettings) -> _Outcome:
    if all(turn.role != "user" for turn in turns):
        return "no question"
    for number, turn in enumerate(turns, start=1):
        if is_blank(turn.text) and not shows(turn.message or {}):
            return f"turn {number} ({turn.role}) is empty"
    gold = chain.meta.get("reference")
    blank = not chain.steps and isinstance(gold, str) and is_blank(gold)
    return "the gold answer is empty" if blank else chain


def _short(chain: Chain, turns: Sequence[Turn], _: RuleSettings) -> _Outcome:
    if len(turns) == 1 and chain.prompt.messages is None:
        return chain  # a question alone is no conversation
    length = sum(len(turn.text.strip()) for turn in turns)
    return chain if length >= _SHORT else f"{length} characters of text, fewer than {_SHORT}"


def _blocked(chain: Chain, turns: Sequence[Turn], settings: RuleSettings) -> _Outcome:
    asked = [turn for turn in turns if turn.role == "user"][:1]
    if asked and chain.prompt.messages is None:
        asked = [Turn("user", chain.prompt.instruction)]
    for words in settings.blocked:
        for turn in asked if words.asked_only else turns:
            if found := words.find(turn.text):
                return f"a turn of the {turn.role} contains {found!r}, which is in the list {words.name}"
    return chain


_FENCE = re.compile(r" {0,3}(`{3,}+|~{3,}+)(.*)")
_FIRST = re.compile(r"^[ \t]*+0*1[.)][ \t]", re.M)
_NUMBERED = re.compile(r"([ \t]*)(\d{1,9})[.)][ \t]")


def _wrong_format(chain: Chain, turns: Sequence[Turn], _: RuleSettings) -> _Outcome:
    for number, turn in enumerate(turns, start=1):
        if _broken_list(turn.text):
            return f"turn {number} has a numbered list in which item 1 follows item 1"
    return chain


def _broken_list(text: str) -> bool:
    if text.count("1.") + text.count("1)") < 2 or len(_FIRST.findall(text)) < 2:
        return False
    last: dict[str, int] = {}
    for line in _without_code(text).split("\n"):
        if item := _NUMBERED.match(line):
            depth, number = item[1], int(item[2])
            if number == last.get(depth) == 1:
                return True
            last = {indent: n for indent, n in last.items() if len(indent) < len(depth)} | {depth: number}
        elif line.startswith(("#", "**")) or line.rstrip().endswith(":"):
            last = {}
    return False


def _question(chain: Chain, turns: Sequence[Turn], _: RuleSettings) -> _Outcome:
    reviewed = any(step.feedback for step in chain.steps)
    if chain.prompt.messages is None and (reviewed or chain.prompt.input or gold_answers(chain)):
        return chain  # an instruction need not be a question
    first = next((turn.text for turn in turns if turn.role == "user"), "")
    return chain if is_question(first) else "the first turn is not a question"


def _answer_question(chain: Chain, *_: Any) -> _Outcome:
    answer = answer_of(chain)
    return f"the answer ends in a question: {answer.strip()[-60:]!r}" if ends_in_question(answer) else chain


_BEHIND = frozenset(("So", "Sk", "Mn", "Me", "Cf", "Pe", "Pf"))  # emoji, marks and brackets after a question
_MARKS = "?？؟;⸮՞፧"  # question marks: Latin, full-width, Arabic, Greek, reversed, Armenian, Ethiopic.
_ASKS = re.compile(
    r"\W*(?:(?:and|but|so|ok|okay|well|hi|hello|hey|please)\W+)*"
    r"(?:who|whom|whose|what|when|where|why|which|how|what's|who's|where's|how's"
    r"|(?:is|are|was|were|does|did|can|could|will|would|should|may|might|has|had|isn't|aren't|doesn't|can't)"
    r"\s+(?:i|you|we|they|he|she|it|there|this|that|these|those|the|an?|my|your|our|his|her|its|their|any)"
    r"|(?:do|have|don't)\s+(?:i|you|we|they|these|those|people))\b",
    re.I,
)


def is_question(text: str) -> bool:
    """Return whether a text ends in a question mark, or begins like an English question."""
    return ends_in_question(text) or bool(_ASKS.match(text[:200].strip().replace("’", "'")))


def ends_in_question(text: str) -> bool:
    """Return whether a text ends in a question mark, ignoring quotes, brackets and emoji at the end."""
    for char in reversed(text):
        if char in _MARKS:
            return True
        if not (char.isspace() or char in "\"'*_~`!" or unicodedata.category(char) in _BEHIND):
            return False
    return False


def _language(chain: Chain, turns: Sequence[Turn], settings: RuleSettings) -> _Outcome:
    begins = ""
    for turn in turns:
        begins += _without_code(turn.text[: 2 * TURN])[:TURN] + "\n"
        if len(begins) > READ:
            break
    found, wanted = language_of(begins), settings.languages
    fault = f"the language is {found}, not {', '.join(sorted(wanted))}"
    return chain if found is None or found in wanted else fault


def _without_code(text: str) -> str:
    if "```" not in text and "~~~" not in text:
        return text
    kept, open_fence = [], ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if not open_fence and not fence:
            kept.append(line)
        elif fence and not open_fence:
            open_fence = fence[1]
        elif fence and fence[1].startswith(open_fence) and not fence[2].strip():
            open_fence = ""
    return "\n".join(kept)


RULES = (
    _Rule("characters", lambda c, *_: with_texts(c, lambda _, text: without_controls(text)), usual=True),
    _Rule("roles", _roles, usual=True),
    _Rule("first-pair", _first_pair),
    _Rule("html", _html, usual=True),
    _Rule("residue", lambda c, *_: with_texts(c, lambda _, text: without_residue(text)), usual=True),
    _Rule("answered", lambda c, *_: c if c.steps or gold_answers(c) else "no answer"),
    _Rule("empty", _empty, usual=True),
    _Rule("short", _short, usual=True),
    _Rule("blocked", _blocked),
    _Rule("leaks", lambda c, *_: "quotes the gold answer" if generated(c, "leaks") or leaking(c)[1] else c),
    _Rule("refusals", lambda c, *_: "a refusal" if generated(c, "refusals") else c),
    _Rule("wrong-format", _wrong_format),
    _Rule("question", _question),
    _Rule("answer-question", _answer_question),
    _Rule("language", _language),
)
"""All rules, in the order of application."""

NAMES = tuple(rule.name for rule in RULES)


@dataclass(frozen=True)
class Preset:
    """A named set of rules and settings."""

    rules: frozenset[str]
    settings: RuleSettings = field(default_factory=RuleSettings)


USUAL = Preset(frozenset(rule.name for rule in RULES if rule.usual))
PRESETS = {
    "fastchat": Preset(
        USUAL.rules | {"answered", "blocked", "wrong-format"}, RuleSettings(blocked=(FASTCHAT,))
    ),
    "selfee": Preset(
        USUAL.rules | {"answered", "first-pair", "question", "answer-question", "language"},
        RuleSettings(languages=frozenset(("en",))),
    ),
}
"""The rules of FastChat's scripts for Vicuna, and the rules in SelFee's README for ShareGPT."""
