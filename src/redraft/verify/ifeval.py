"""IFEval's 25 types of constraints as checks: `ifeval:keywords:existence {"keywords": ["rain"]}`.

Each decides as in the paper's program (Zhou et al., arXiv:2311.07911), so that scores compare with published
ones. Sentences and words in capitals are split by `segment` and not nltk, and languages told by fastText and
not langdetect: docs/evaluate.md says where that differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError, shown
from redraft.steering.form import Form
from redraft.verify.base import Outcome, Prospect, failed, passed
from redraft.verify.ifeval_form import CHOICES, form_of
from redraft.verify.ifeval_prefix import FENCES, is_lost
from redraft.verify.segment import sentences, words
from redraft.verify.text import Language, language_name, language_of

Values = Mapping[str, Any]  # the arguments of a constraint, as in `kwargs` of IFEval's records
Decision = tuple[bool, str]  # whether the constraint is met, and what was found: a clause about the answer
Decide = Callable[[str, Values], Decision]

TYPES: dict[str, tuple[Decide, dict[str, Any], str]] = {}
"""Type -> (how it is judged, its values with their types, the demand)."""

_RELATION = "less than|at least"


def _type(name: str, demand: str, values: str = "") -> Callable[[Decide], Decide]:
    """Return a decorator that makes a function the judgement of a type, by the names of its values."""

    def add(decide: Decide) -> Decide:
        TYPES[name] = (decide, {value: _form_of(value) for value in values.split()}, demand)
        return decide

    return add


def _form_of(value: str) -> Any:
    """Return the type of a value of IFEval by its name. All its names follow this."""
    if value.endswith("relation"):
        return _RELATION
    if value in ("keywords", "forbidden_words"):
        return list
    return int if value.startswith(("num_", "nth_")) or value.endswith("frequency") else str


def _related(count: int, values: Values, relation: str, limit: str, what: str) -> Decision:
    few = count < values[limit]
    return (few if values[relation] == "less than" else not few), f"it has {count} {what}"


@_type("keywords:existence", "Use all of these: {keywords}.", "keywords")
def _existence(answer: str, values: Values) -> Decision:
    missing = [word for word in values["keywords"] if not _occurs(word, answer)]
    return not missing, f"it lacks {_quoted(missing)}" if missing else "it has all of them"


@_type("keywords:frequency", 'Use "{keyword}" {relation} {frequency} times.', "keyword relation frequency")
def _frequency(answer: str, values: Values) -> Decision:
    count = _occurs(values["keyword"], answer)
    return _related(count, values, "relation", "frequency", f"times {_quoted([values['keyword']])}")


@_type("keywords:forbidden_words", "Do not use these words: {forbidden_words}.", "forbidden_words")
def _forbidden(answer: str, values: Values) -> Decision:
    words_ = values["forbidden_words"]
    found = [word for word in words_ if re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE)]
    return not found, f"it has {_quoted(found)}" if found else "it has none of them"


def _occurs(text: str, answer: str) -> int:
    return len(re.findall(re.escape(text), answer, re.IGNORECASE))


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


@_type(
    "keywords:letter_frequency",
    "Use the letter {letter} {let_relation} {let_frequency} times.",
    "letter let_relation let_frequency",
)
def _letters(answer: str, values: Values) -> Decision:
    count = answer.lower().count(values["letter"].lower())
    return _related(count, values, "let_relation", "let_frequency", f"times the letter {values['letter']}")


@_type("language:response_language", "Write the whole answer in {language}.", "language")
def _language(answer: str, values: Values) -> Decision:
    found = language_of(answer) if any(map(str.isalpha, answer)) else None
    wanted = values["language"]
    return found in (wanted, None), f"it seems to be in the language {found}"


@_type(
    "length_constraints:number_sentences",
    "Write {relation} {num_sentences} sentences.",
    "relation num_sentences",
)
def _sentences(answer: str, values: Values) -> Decision:
    return _related(len(sentences(answer)), values, "relation", "num_sentences", "sentences")


@_type(
    "length_constraints:number_paragraphs",
    "Write exactly {num_paragraphs} paragraphs, separated by ***",
    "num_paragraphs",
)
def _paragraphs(answer: str, values: Values) -> Decision:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
    if "" in parts[1:-1]:
        return False, "it has *** twice with nothing between"
    count = sum(map(bool, parts))
    return count == values["num_paragraphs"], f"it has {count} paragraphs separated by ***"


@_type("length_constraints:number_words", "Write {relation} {num_words} words.", "relation num_words")
def _words(answer: str, values: Values) -> Decision:
    return _related(len(re.findall(r"\w+", answer)), values, "relation", "num_words", "words")


@_type(
    "length_constraints:nth_paragraph_first_word",
    "Write exactly {num_paragraphs} paragraphs, separated by blank lines; the first word of number "
    "{nth_paragraph} is {first_word}.",
    "num_paragraphs nth_paragraph first_word",
)
def _first_word(answer: str, values: Values) -> Decision:
    parts = answer.split("\n\n")
    count, place = sum(1 for part in parts if part.strip()), values["nth_paragraph"]
    found = parts[place - 1].split() if place <= count else []
    word = re.split(r"[.,?!'\"]", found[0].lstrip("'").lstrip('"'))[0].lower() if found else ""
    said = f'it has {count} paragraphs, and number {place} begins with "{word}"'
    return count == values["num_paragraphs"] and word == values["first_word"].lower(), said


@_type(
    "detectable_content:number_placeholders",
    "Use at least {num_placeholders} placeholders in square brackets, such as [address].",
    "num_placeholders",
)
def _placeholders(answer: str, values: Values) -> Decision:
    count = sum(map(_closed, answer.split("\n")))
    return count >= values["num_placeholders"], f"it has {count} placeholders in square brackets"


def _closed(line: str) -> int:
    r"""Count matches of `\[.*?\]`, in one pass however many brackets are never closed."""
    count, end = 0, -1
    while (begin := line.find("[", end + 1)) >= 0 and (end := line.find("]", begin)) >= 0:
        count += 1
    return count


@_type(
    "detectable_content:postscript",
    "Add a postscript that begins with {postscript_marker}",
    "postscript_marker",
)
def _postscript(answer: str, values: Values) -> Decision:
    marker = values["postscript_marker"]
    usual = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    found = re.search(usual.get(marker, re.escape(marker.lower())), answer.lower())
    return bool(found), f"it has {'a' if found else 'no'} postscript with {marker}"


@_type(
    "detectable_format:number_bullet_lists",
    "Write exactly {num_bullets} bullet points, each a line that begins with *",
    "num_bullets",
)
def _bullets(answer: str, values: Values) -> Decision:
    count = len(re.findall(r"^[^\S\n]*\*[^\*].*$", answer, re.MULTILINE))
    count += len(re.findall(r"^[^\S\n]*-.*$", answer, re.MULTILINE))
    return count == values["num_bullets"], f"it has {count} bullet points"


@_type("detectable_format:constrained_response", f"Say one of these: {_quoted(CHOICES)}.")
def _choice(answer: str, _: Values) -> Decision:
    found = next((choice for choice in CHOICES if choice in answer), None)
    return found is not None, f'it has "{found}"' if found else f"it has none of {_quoted(CHOICES)}"


@_type(
    "detectable_format:number_highlighted_sections",
    "Highlight at least {num_highlights} sections, as *highlighted section*.",
    "num_highlights",
)
def _highlights(answer: str, values: Values) -> Decision:
    single, double = re.findall(r"\*[^\n\*]*\*", answer), re.findall(r"\*\*[^\n\*]*\*\*", answer)
    count = sum(1 for text in [*single, *double] if text.strip("*").strip())
    return count >= values["num_highlights"], f"it has {count} sections in *asterisks*"


@_type(
    "detectable_format:multiple_sections",
    "Write at least {num_sections} sections; begin each with {section_spliter} and its number.",
    "section_spliter num_sections",
)
def _sections(answer: str, values: Values) -> Decision:
    mark = values["section_spliter"]
    count = len(re.findall(rf"\s?{re.escape(mark)}\s?\d+\s?", answer))
    return count >= values["num_sections"], f"it has {count} sections that begin with {mark} and a number"


@_type("detectable_format:json_format", "Write the whole answer as JSON.")
def _json(answer: str, _: Values) -> Decision:
    text = answer.strip()
    text = text.removeprefix(next(filter(text.startswith, FENCES), "")).removesuffix("```")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False, "it is not JSON"
    return True, "it is JSON"


@_type("detectable_format:title", "Give a title, wrapped as <<title>>.")
def _title(answer: str, _: Values) -> Decision:
    found = any(title.lstrip("<").rstrip(">").strip() for title in map(_titled, answer.split("\n")))
    return found, f"it has {'a' if found else 'no'} title in <<double angular brackets>>"


def _titled(line: str) -> str:
    """Return the match of `<<.+>>`, in one pass however many brackets are never closed; empty without one."""
    begin, end = line.find("<<"), line.rfind(">>")
    return line[begin : end + 2] if 0 <= begin < end - 2 else ""


@_type("combination:two_responses", "Give two different responses, separated by ******")
def _two(answer: str, _: Values) -> Decision:
    parts = [part.strip() for part in answer.split("******")]
    found = [part for part in parts if part]
    if "" in parts[1:-1] or len(found) != 2:
        return False, f"it has {len(found)} responses separated by ******, and should have two"
    differ = found[0] != found[1]
    return differ, f"its two responses are {'different' if differ else 'the same'}"


@_type(
    "combination:repeat_prompt", "First repeat the request word for word, then answer it.", "prompt_to_repeat"
)
def _repeated(answer: str, values: Values) -> Decision:
    found = answer.strip().lower().startswith(values["prompt_to_repeat"].strip().lower())
    return found, f"it {'begins' if found else 'does not begin'} with the request, word for word"


@_type("startend:end_checker", 'End with this exact phrase: "{end_phrase}"', "end_phrase")
def _end(answer: str, values: Values) -> Decision:
    phrase = values["end_phrase"]
    found = answer.strip().strip('"').lower().endswith(phrase.strip().lower())
    return found, f'it {"ends" if found else "does not end"} with "{phrase}"'


@_type("startend:quotation", "Wrap the whole answer in double quotation marks.")
def _quotation(answer: str, _: Values) -> Decision:
    text = answer.strip()
    found = len(text) > 1 and text[0] == text[-1] == '"'
    return found, f"it is {'' if found else 'not '}wrapped in double quotation marks"


@_type("change_case:english_capital", "Write in English, in capital letters only.")
def _capital(answer: str, _: Values) -> Decision:
    return _english(answer) if answer.isupper() else (False, "not all of it is in capital letters")


@_type("change_case:english_lowercase", "Write in English, in small letters only.")
def _lowercase(answer: str, _: Values) -> Decision:
    return _english(answer) if answer.islower() else (False, "not all of it is in small letters")


def _english(answer: str) -> Decision:
    case = "capital" if answer.isupper() else "small"
    found = language_of(answer.lower())  # fastText knows words in capitals badly
    return found == "en", f"it is in {case} letters, in the language {found}"


@_type(
    "change_case:capital_word_frequency",
    "Use {capital_relation} {capital_frequency} words in capitals.",
    "capital_relation capital_frequency",
)
def _capital_words(answer: str, values: Values) -> Decision:
    count = sum(1 for word in words(answer) if word.isupper())
    return _related(count, values, "capital_relation", "capital_frequency", "words in capitals")


@_type("punctuation:no_comma", "Use no commas.")
def _no_comma(answer: str, _: Values) -> Decision:
    count = answer.count(",")
    return not count, f"it has {count} commas"


OF_LANGUAGE = {"language:response_language", "change_case:english_capital", "change_case:english_lowercase"}
"""Types that need the extra `data`."""


@dataclass(frozen=True)
class Constraint:
    """`ifeval:TYPE {"name": value}`: the answer meets a constraint of IFEval."""

    kind: str
    values: Values = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, kind: object, values: object) -> Self:
        """Check type and arguments. Arguments that are null are left out."""
        if not isinstance(kind, str) or kind not in TYPES:
            raise CheckSyntaxError(
                f"IFEval has no constraint {shown(kind)}.", hint=f"It has: {' '.join(TYPES)}"
            )
        if values is not None and not isinstance(values, dict):
            raise _misused(kind, f"{shown(values)} is no object")
        given = {name: value for name, value in (values or {}).items() if value is not None}
        if wrong := _wrong(kind, given):
            raise _misused(kind, wrong)
        if kind in OF_LANGUAGE:
            Language.of(given.get("language", "en"))
        return cls(kind, given)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `TYPE {"name": value}`."""
        kind, _, rest = text.partition(" ")
        try:
            values = json.loads(rest) if rest.strip() else {}
        except (ValueError, RecursionError):
            raise CheckSyntaxError(
                f"ifeval:{kind}: {rest:.60} is not JSON.",
                hint='Write: ifeval:keywords:existence {"keywords": ["rain"]}',
            ) from None
        return cls.of(kind, values)

    @property
    def name(self) -> str:
        """The short form."""
        values = f" {json.dumps(self.values, ensure_ascii=False)}" if self.values else ""
        return f"ifeval:{self.kind}{values}"

    @property
    def demand(self) -> str:
        """The constraint, as a sentence."""
        told = {"language": language_name(str(self.values.get("language")))}
        texts = {n: _quoted(value) if isinstance(value, list) else value for n, value in self.values.items()}
        return TYPES[self.kind][2].format(**(texts | told))

    @property
    def form(self) -> Form | None:
        """What of the constraint steers a model."""
        return form_of(self.kind, self.values)

    def prefix(self, text: str) -> Prospect:
        """Lost once the constraint is broken for good."""
        return "lost" if is_lost(self.kind, self.values, text) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the constraint is met."""
        met, found = TYPES[self.kind][0](answer, self.values)
        return (
            passed(f"As wanted: {found}.")
            if met
            else failed(f"{self.demand} The answer is not like that: {found}.")
        )


def _wrong(kind: str, given: Values) -> str:
    """Return in words which argument is missing or wrong; empty if none is."""
    wanted = TYPES[kind][1]
    for name, form in wanted.items():
        if name not in given:
            return f"{name!r} is missing"
        value = given[name]
        good = value in form.split("|") if isinstance(form, str) else type(value) is form
        if form is list:
            good = good and bool(value) and all(isinstance(part, str) and part for part in value)
        if not good or value == "":
            return f"{name} is {json.dumps(value, ensure_ascii=False):.60}"
    unknown = [name for name in given if name not in wanted]
    return f"there is no {unknown[0]!r}" if unknown else ""


def _misused(kind: str, problem: str) -> CheckSyntaxError:
    examples = {list: '["rain"]', str: '"…"', int: "3", _RELATION: '"at least"'}
    values = ", ".join(f'"{name}": {examples[form]}' for name, form in TYPES[kind][1].items())
    return CheckSyntaxError(
        f"ifeval:{kind}: {problem}.", hint=f"Write ifeval:{kind}" + f" {{{values}}}" * bool(values)
    )


def loosened(answer: str) -> list[str]:
    """Return the variants of an answer for IFEval's loose score: without the first line, the last, both, and
    all of these without asterisks, since models like to add `Sure, here it is:` and markdown.
    """
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [variant for text in cut for variant in (text, text.replace("*", "")) if variant.strip()]
