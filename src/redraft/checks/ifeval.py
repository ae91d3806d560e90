"""IFEval's 25 types of constraints as checks: `ifeval:keywords:existence {"keywords": ["rain"]}`.

Each type follows the rule of the paper's program (Zhou et al., arXiv:2311.07911), so published scores are
comparable. But `segment` replaces nltk for splitting sentences and finding capital words, and fastText
replaces langdetect for recognising languages: docs/evaluate.md lists the differences. Many types have a form
that steers a model, and detect that no continuation of a streaming answer can meet the constraint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Self

import regex

from redraft.chain import Prompt
from redraft.checks.base import Outcome, Prospect, failed, passed
from redraft.checks.language import Language, language_name, likeliest
from redraft.checks.segment import settled, words
from redraft.checks.structure import Json
from redraft.checks.text import count_sentences
from redraft.engines.steering.form import Form, Layout, Limit
from redraft.errors import CheckSyntaxError, shown

Values = Mapping[str, Any]  # the arguments of a constraint, as in `kwargs` of IFEval's records
Decision = tuple[bool, str]  # whether the constraint is met, and the finding: `it has 3 words`
Decide = Callable[[str, Values], Decision]
Lost = Callable[[str, Values], bool]
"""A function that returns whether no continuation of an answer's beginning can meet the constraint."""


@dataclass(frozen=True)
class Type:
    """A type of constraint."""

    decide: Decide
    values: dict[str, Any]  # the names of its values, and their types
    demand: str  # the demand, with placeholders for the values
    # Makes the form of answers that meet the constraint; None if no form can, as for most upper bounds.
    form: Callable[[Values], Form | None] | None
    # Detects beginnings of answers that break the constraint for good; None if no beginning does.
    lost: Lost | None


TYPES: dict[str, Type] = {}

_RELATION = "less than|at least"


def _type(
    name: str,
    demand: str,
    values: str = "",
    *,
    form: Callable[[Values], Form | None] | None = None,
    lost: Lost | None = None,
    grows: Callable[[str], str] | None = None,
) -> Callable[[Decide], Decide]:
    """Return a decorator that registers a type. `values` defaults to the placeholders in `demand`.

    `grows` returns the part of a text that more text cannot change, for constraints that stay broken.
    """

    def add(decide: Decide) -> Decide:
        def broken(text: str, given: Values) -> bool:
            at_least = "at least" in (value for name, value in given.items() if name.endswith("relation"))
            return not at_least and not decide(grows(text), given)[0]  # type: ignore[misc]

        names = values.split() or [field for _, field, _, _ in Formatter().parse(demand) if field]
        kinds = {value: _form_of(value) for value in names}
        TYPES[name] = Type(decide, kinds, demand, form, broken if grows else lost)
        return decide

    return add


def _form_of(value: str) -> Any:
    if value.endswith("relation"):
        return _RELATION
    if value in ("keywords", "forbidden_words"):
        return list
    return int if value.startswith(("num_", "nth_")) or value.endswith("frequency") else str


def _limited(count: Callable[[str], int], relation: str, limit: int) -> Form:
    less = relation == "less than"
    return Form(limits=(Limit(count, 0, max(limit - 1, 0)) if less else Limit(count, limit),))


def _count_words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def _slots(slot: str, count: str, relation: str = "") -> Callable[[Values], Form | None]:

    def form(values: Values) -> Form | None:
        if relation and values[relation] == "less than":
            return None
        return Form(layout=Layout(slots=(slot,) * values[count]))

    return form


def _too_many(parts: list[str], most: int) -> bool:
    *complete, last = (part.strip() for part in parts)
    return "" in complete[1:] or sum(map(bool, complete)) + bool(last.strip("*")) > most


def _related(count: int, values: Values, relation: str, limit: str, what: str) -> Decision:
    few = count < values[limit]
    return (few if values[relation] == "less than" else not few), f"it has {count} {what}"


@_type(
    "keywords:existence",
    "Use all of these: {keywords}.",
    form=lambda values: Form(has=tuple(values["keywords"])),
)
def _existence(answer: str, values: Values) -> Decision:
    missing = [word for word in values["keywords"] if not _occurs(word, answer)]
    return not missing, f"it lacks {_quoted(missing)}" if missing else "it has all of them"


def _often(values: Values) -> Form | None:
    word, count = values["keyword"], values["frequency"]
    if values["relation"] != "less than":
        return Form(has=(word,) * count)
    return Form(lacks=(word,)) if count == 1 else None


@_type("keywords:frequency", 'Use "{keyword}" {relation} {frequency} times.', form=_often, grows=str.strip)
def _frequency(answer: str, values: Values) -> Decision:
    count = _occurs(values["keyword"], answer)
    return _related(count, values, "relation", "frequency", f"times {_quoted([values['keyword']])}")


@_type(
    "keywords:forbidden_words",
    "Do not use these words: {forbidden_words}.",
    form=lambda values: Form(lacks=tuple(values["forbidden_words"])),
    grows=settled,
)
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
    grows=lambda text: settled(text).rstrip(),
)
def _letters(answer: str, values: Values) -> Decision:
    count = answer.lower().count(values["letter"].lower())
    return _related(count, values, "let_relation", "let_frequency", f"times the letter {values['letter']}")


@_type("language:response_language", "Write the whole answer in {language}.", "language")
def _language(answer: str, values: Values) -> Decision:
    found = likeliest(answer) if any(map(str.isalpha, answer)) else None
    return found in (values["language"], None), f"it seems to be in the language {found}"


@_type(
    "length_constraints:number_sentences",
    "Write {relation} {num_sentences} sentences.",
    form=lambda values: _limited(count_sentences, values["relation"], values["num_sentences"]),
    grows=settled,
)
def _sentences(answer: str, values: Values) -> Decision:
    return _related(count_sentences(answer), values, "relation", "num_sentences", "sentences")


_STARS = re.compile(r"\s?\*\*\*\s?")


@_type(
    "length_constraints:number_paragraphs",
    "Write exactly {num_paragraphs} paragraphs, separated by ***",
    form=lambda values: Form(layout=Layout(parts=values["num_paragraphs"], between="\n\n***\n\n")),
    lost=lambda text, values: _too_many(_STARS.split(text.strip()), values["num_paragraphs"]),
)
def _paragraphs(answer: str, values: Values) -> Decision:
    parts = [part.strip() for part in _STARS.split(answer)]
    if "" in parts[1:-1]:
        return False, "it has *** twice with nothing between"
    count = sum(map(bool, parts))
    return count == values["num_paragraphs"], f"it has {count} paragraphs separated by ***"


@_type(
    "length_constraints:number_words",
    "Write {relation} {num_words} words.",
    form=lambda values: _limited(_count_words, values["relation"], values["num_words"]),
    grows=str.strip,
)
def _words(answer: str, values: Values) -> Decision:
    return _related(_count_words(answer), values, "relation", "num_words", "words")


def _begins_wrong(text: str, values: Values) -> bool:
    parts, place = text.split("\n\n"), values["nth_paragraph"]
    if sum(1 for part in text.strip().split("\n\n") if part.strip()) > values["num_paragraphs"]:
        return True
    found = parts[place - 1].split() if len(parts) >= place else []
    if not found or (len(found) == 1 and len(parts) == place):  # the word may still grow
        return False
    return bool(_bare(found[0]) != values["first_word"].lower())


def _bare(word: str) -> str:
    return re.split(r"[.,?!'\"]", word.lstrip("'").lstrip('"'))[0].lower()


@_type(
    "length_constraints:nth_paragraph_first_word",
    "Write exactly {num_paragraphs} paragraphs, separated by blank lines; the first word of "
    "paragraph {nth_paragraph} is {first_word}.",
    form=lambda values: Form(
        layout=Layout(
            parts=values["num_paragraphs"],
            between="\n\n",
            first=(values["nth_paragraph"], values["first_word"]),
        )
    ),
    lost=_begins_wrong,
)
def _first_word(answer: str, values: Values) -> Decision:
    parts = answer.split("\n\n")
    count, place = sum(1 for part in parts if part.strip()), values["nth_paragraph"]
    found = parts[place - 1].split() if place <= count else []
    word = _bare(found[0]) if found else ""
    said = f'it has {count} paragraphs, and paragraph {place} begins with "{word}"'
    return count == values["num_paragraphs"] and word == values["first_word"].lower(), said


@_type(
    "detectable_content:number_placeholders",
    "Use at least {num_placeholders} placeholders in square brackets, such as [address].",
    form=_slots("[…]", "num_placeholders"),
)
def _placeholders(answer: str, values: Values) -> Decision:
    # Search up to the last closing bracket, so that unclosed brackets do not cost quadratic time.
    count = sum(len(re.findall(r"\[[^\]]*\]", line[: line.rfind("]") + 1])) for line in answer.split("\n"))
    return count >= values["num_placeholders"], f"it has {count} placeholders in square brackets"


@_type(
    "detectable_content:postscript",
    "Add a postscript that begins with {postscript_marker}",
    form=lambda values: Form(postscript=values["postscript_marker"]),
)
def _postscript(answer: str, values: Values) -> Decision:
    marker = values["postscript_marker"]
    usual = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    found = re.search(usual.get(marker, re.escape(marker.lower())), answer.lower())
    return bool(found), f"it has {'a' if found else 'no'} postscript with {marker}"


_BULLETS = [re.compile(rf"^[^\S\n]*{mark}.*$", re.MULTILINE) for mark in (r"\*[^\*]", "-")]


def _count_bullets(text: str) -> int:
    return sum(len(bullet.findall(text)) for bullet in _BULLETS)


@_type(
    "detectable_format:number_bullet_lists",
    "Write exactly {num_bullets} bullet points, each a line that begins with *",
    form=lambda values: Form(layout=Layout(parts=values["num_bullets"], mark="* ", between="\n")),
    lost=lambda text, values: _count_bullets(text.strip()) > values["num_bullets"],
)
def _bullets(answer: str, values: Values) -> Decision:
    count = _count_bullets(answer)
    return count == values["num_bullets"], f"it has {count} bullet points"


CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


@_type(
    "detectable_format:constrained_response",
    f"Say one of these: {_quoted(CHOICES)}.",
    form=lambda _: Form(pattern=f"^({'|'.join(map(re.escape, CHOICES))})$"),
)
def _choice(answer: str, _: Values) -> Decision:
    found = next((choice for choice in CHOICES if choice in answer), None)
    return found is not None, f'it has "{found}"' if found else f"it has none of {_quoted(CHOICES)}"


@_type(
    "detectable_format:number_highlighted_sections",
    "Highlight at least {num_highlights} sections, as *highlighted section*.",
    form=_slots("*…*", "num_highlights"),
)
def _highlights(answer: str, values: Values) -> Decision:
    single, double = re.findall(r"\*[^\n\*]*\*", answer), re.findall(r"\*\*[^\n\*]*\*\*", answer)
    count = sum(1 for text in [*single, *double] if text.strip("*").strip())
    return count >= values["num_highlights"], f"it has {count} sections in *asterisks*"


@_type(
    "detectable_format:multiple_sections",
    "Write at least {num_sections} sections; begin each with {section_spliter} and its number.",
    form=lambda values: Form(
        layout=Layout(
            parts=values["num_sections"],
            more=True,
            mark=f"{values['section_spliter'].strip().replace('{', '{{').replace('}', '}}')} {{}}\n",
            between="\n\n",
        )
    ),
)
def _sections(answer: str, values: Values) -> Decision:
    mark = values["section_spliter"]
    count = len(re.findall(rf"\s?{re.escape(mark)}\s?\d+\s?", answer))
    return count >= values["num_sections"], f"it has {count} sections that begin with {mark} and a number"


@_type("detectable_format:json_format", "Write the whole answer as JSON.")
def _json(answer: str, _: Values) -> Decision:
    text = re.sub(r"\A```(?:json|Json|JSON)?", "", answer.strip()).removesuffix("```")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False, "it is not JSON"
    return True, "it is JSON"


@_type(
    "detectable_format:title",
    "Give a title, wrapped as <<title>>.",
    form=lambda _: Form(layout=Layout(title=True)),
)
def _title(answer: str, _: Values) -> Decision:
    titles = (line.partition("<<")[2].rpartition(">>")[0] for line in answer.split("\n"))
    found = any(title.lstrip("<").rstrip(">").strip() for title in titles)
    return found, f"it has {'a' if found else 'no'} title in <<double angular brackets>>"


@_type(
    "combination:two_responses",
    "Give two different responses, separated by ******",
    form=lambda _: Form(layout=Layout(parts=2, between="\n\n******\n\n")),
    lost=lambda text, _: _too_many(text.strip().split("******"), 2),
)
def _two(answer: str, _: Values) -> Decision:
    parts = [part.strip() for part in answer.split("******")]
    found = [part for part in parts if part]
    if "" in parts[1:-1] or len(found) != 2:
        return False, f"it has {len(found)} responses separated by ******, and should have two"
    differ = found[0] != found[1]
    return differ, f"its two responses are {'different' if differ else 'the same'}"


def _not_repeated(text: str, values: Values) -> bool:
    wanted, so_far = values["prompt_to_repeat"].strip().lower(), settled(text).lstrip().lower()
    return not str(wanted).startswith(so_far) and not so_far.startswith(wanted)


@_type(
    "combination:repeat_prompt",
    "First repeat the request word for word, then answer it.",
    "prompt_to_repeat",
    form=lambda values: Form(opening=values["prompt_to_repeat"].strip()),
    lost=_not_repeated,
)
def _repeated(answer: str, values: Values) -> Decision:
    found = answer.strip().lower().startswith(values["prompt_to_repeat"].strip().lower())
    return found, f"it {'begins' if found else 'does not begin'} with the request, word for word"


@_type(
    "startend:end_checker",
    'End with this exact phrase: "{end_phrase}"',
    form=lambda values: Form(closing=values["end_phrase"].strip()),
)
def _end(answer: str, values: Values) -> Decision:
    phrase = values["end_phrase"]
    found = answer.strip().strip('"').lower().endswith(phrase.strip().lower())
    return found, f'it {"ends" if found else "does not end"} with "{phrase}"'


@_type(
    "startend:quotation",
    "Wrap the whole answer in double quotation marks.",
    form=lambda _: Form(quoted=True),
    lost=lambda text, _: text.strip()[:1] not in ("", '"'),
)
def _quotation(answer: str, _: Values) -> Decision:
    text = answer.strip()
    found = len(text) > 1 and text[0] == text[-1] == '"'
    return found, f"it is {'' if found else 'not '}wrapped in double quotation marks"


@_type(
    "change_case:english_capital",
    "Write in English, in capital letters only.",
    form=lambda _: Form(case="upper"),
    lost=lambda text, _: not f"A{text}".isupper(),
)
def _capital(answer: str, _: Values) -> Decision:
    return _english(answer) if answer.isupper() else (False, "not all of it is in capital letters")


@_type(
    "change_case:english_lowercase",
    "Write in English, in small letters only.",
    form=lambda _: Form(case="lower"),
    lost=lambda text, _: not f"a{text}".islower(),
)
def _lowercase(answer: str, _: Values) -> Decision:
    return _english(answer) if answer.islower() else (False, "not all of it is in small letters")


def _english(answer: str) -> Decision:
    case = "capital" if answer.isupper() else "small"
    found = likeliest(answer.lower())  # fastText recognises capitals badly
    return found == "en", f"it is in {case} letters, in the language {found}"


@_type(
    "change_case:capital_word_frequency",
    "Use {capital_relation} {capital_frequency} words in capitals.",
    form=_slots("ABC", "capital_frequency", "capital_relation"),
    grows=settled,
)
def _capital_words(answer: str, values: Values) -> Decision:
    count = sum(1 for word in words(answer) if word.isupper())
    return _related(count, values, "capital_relation", "capital_frequency", "words in capitals")


@_type("punctuation:no_comma", "Use no commas.", form=lambda _: Form(without=frozenset(",")), grows=str.strip)
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
        """Validate the type and the arguments of a constraint. Null arguments are left out."""
        if not isinstance(kind, str) or kind not in TYPES:
            hint = f"IFEval's types: {' '.join(TYPES)}"
            raise CheckSyntaxError(f"IFEval has no constraint {shown(kind)}.", hint=hint)
        if values is not None and not isinstance(values, dict):
            raise _misused(kind, f"{shown(values)} is not an object")
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
            hint = 'Write: ifeval:keywords:existence {"keywords": ["rain"]}'
            raise CheckSyntaxError(f"ifeval:{kind}: {rest:.60} is not JSON.", hint=hint) from None
        return cls.of(kind, values)

    @property
    def name(self) -> str:
        """The check as written: `ifeval:TYPE {"name": value}`."""
        values = f" {json.dumps(self.values, ensure_ascii=False)}" if self.values else ""
        return f"ifeval:{self.kind}{values}"

    @property
    def demand(self) -> str:
        """The constraint, as a sentence for the model."""
        told = {"language": language_name(str(self.values.get("language")))}
        texts = {n: _quoted(value) if isinstance(value, list) else value for n, value in self.values.items()}
        return TYPES[self.kind].demand.format(**(texts | told))

    @property
    def schema(self) -> Any:
        """A JSON Schema if the constraint demands that the whole answer is JSON; otherwise None."""
        return Json().schema if self.kind == "detectable_format:json_format" else None

    @property
    def form(self) -> Form | None:
        """A `Form` that steers a model to meet the constraint, or None."""
        make = TYPES[self.kind].form
        return make(self.values) if make else None

    def prefix(self, text: str) -> Prospect:
        """Return `lost` if no continuation of the text can meet the constraint, otherwise `open`."""
        lost = TYPES[self.kind].lost
        return "lost" if lost and lost(text, self.values) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the constraint is met."""
        met, found = TYPES[self.kind].decide(answer, self.values)
        if met:
            return passed(f"As wanted: {found}.")
        return failed(f"{self.demand} The answer does not do this: {found}.", places=self._places(answer))

    def _places(self, answer: str) -> list[tuple[int, int]]:
        form = self.form or Form()
        parts = [*map(re.escape, form.without), *(rf"(?i:\b{re.escape(word)}\b)" for word in form.lacks)]
        parts += {"upper": [r"\p{Ll}+"], "lower": [r"\p{Lu}+"]}.get(form.case, [])
        pattern = regex.compile("|".join(parts) or "(?!)", cache_pattern=False)
        met, _ = TYPES[self.kind].decide(pattern.sub(" ", answer), self.values)
        return [match.span() for match in pattern.finditer(answer)] if met else []


def _wrong(kind: str, given: Values) -> str:
    wanted = TYPES[kind].values
    for name, form in wanted.items():
        if name not in given:
            return f"the argument {name!r} is missing"
        value = given[name]
        good = value in form.split("|") if isinstance(form, str) else type(value) is form
        if form is list:
            good = good and bool(value) and all(isinstance(part, str) and part for part in value)
        if not good or value == "":
            return f"{name} cannot be {json.dumps(value, ensure_ascii=False):.60}"
    unknown = [name for name in given if name not in wanted]
    return f"there is no argument {unknown[0]!r}" if unknown else ""


def _misused(kind: str, problem: str) -> CheckSyntaxError:
    examples = {list: '["rain"]', str: '"…"', int: "3", _RELATION: '"at least"'}
    values = ", ".join(f'"{name}": {examples[form]}' for name, form in TYPES[kind].values.items())
    message = f"ifeval:{kind}: {problem}."
    return CheckSyntaxError(message, hint=f"Write ifeval:{kind}" + f" {{{values}}}" * bool(values))


def loosened(answer: str) -> list[str]:
    """Return an answer and its variants for IFEval's loose score: without first line, last line or both.

    Each variant is also returned without asterisks.
    """
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [variant for text in cut for variant in (text, text.replace("*", "")) if variant.strip()]
