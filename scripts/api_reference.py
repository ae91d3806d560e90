"""Write docs/options.md and the reference parts of docs/api/. `make docs` runs this script.

A page of docs/api is written by hand, with its examples. This script replaces only the text from
`<!-- redraft.NAME -->` to `<!-- end of redraft.NAME -->`, by a public name's docstring and signature.
docs/options.md is generated as a whole from the models of the options. A test fails if a page is out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

import redraft
from redraft.data.generate.options import ChainOptions, InstructionOptions
from redraft.data.merge import MixPart, MixRecipe
from redraft.evaluation.judging.run import JudgeFileOptions
from redraft.evaluation.tasks.run import EvalFileOptions
from redraft.options import OptionModel, allowed, options_of
from redraft.revision.options import RevisionOptions
from redraft.revision.runs.options import AnswerOptions
from redraft.train.options import PpoOptions, RewardOptions, SftOptions
from redraft.train.systems.recipe import FileKeys, Needs, StageKeys, SystemKeys

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "api"
OPTIONS_PAGE = DOCS / "options.md"
PART = re.compile(r"(?<=<!-- redraft\.)(\w+)( -->\n).*?(?=<!-- end of redraft\.\1 -->)", re.S)
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Options):\n((?:    .*\n|\n)*)", re.M)
ITEM = re.compile(r"^([*\w]+(?:, \w+)*): ((?:.*\n?(?:(?:    .*)?\n)*))", re.M)
HEADINGS = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises", "Returns": "Returns"}
WIDTH = 88
BAR = r"\|"  # in a cell of a table
INHERITED = set(dir(Exception)) | set(dir(BaseModel)) | {"model_post_init"}

USED_BY = {
    "`revise`, `arevise`, `stream`, `evaluate`": RevisionOptions,
    "`answer_file`": AnswerOptions,
    "`evaluate_file`": EvalFileOptions,
    "`judge`": JudgeFileOptions,
    "`generate_chains`": ChainOptions,
    "`generate_instructions`": InstructionOptions,
    "`train_sft`": SftOptions,
    "`train_reward`": RewardOptions,
    "`train_ppo`": PpoOptions,
    "a recipe of `redraft run`": SystemKeys,
    "its `stages`": StageKeys,
    "the `needs` of a stage": Needs,
    "its `files`": FileKeys,
    "a recipe of `redraft data merge`": MixRecipe,
    "its `parts`": MixPart,
}
"""The functions and recipes that take options, and their option models."""


class Doc(NamedTuple):
    """A docstring in parts: the text, and the items of each section by name."""

    text: str
    sections: dict[str, dict[str, str]]


def doc_of(value: Any) -> Doc:
    """Return an object's docstring in parts, with links."""
    text, sections = f"{inspect.getdoc(value) or ''}\n", {}
    for found in SECTION.finditer(text):
        body = textwrap.dedent(found[2])
        items = {item[1]: line_of(item[2]) for item in ITEM.finditer(body)}
        sections[found[1]] = items or {"": line_of(body)}
    return Doc(linked(SECTION.sub("", text).strip()), sections)


def line_of(text: str) -> str:
    return linked(" ".join(text.split()))


def linked(text: str) -> str:
    """Return a text with links to the pages of docs/ that it names."""
    text = text.replace("As listed below", "[Options](../options.md)")
    text = re.sub(r" \(reference/\w+\.md\)", "", text)  # facts on which redraft is based
    return re.sub(r"\bdocs/([\w/]+\.md)", r"[\1](../\1)", text)


def annotation_of(annotation: Any, home: Any) -> str:
    """Return a type as text, without modules. Names of unions and choices are replaced by their members."""
    text = annotation if isinstance(annotation, str) else plain(annotation)

    def expanded(name: re.Match[str]) -> str:
        named = getattr(inspect.getmodule(home), name[0], None)
        return plain(named) if isinstance(named, UnionType) or get_origin(named) is Literal else name[0]

    return re.sub(r"\b[A-Z]\w+(?!\[)\b", expanded, text)


def plain(annotation: Any) -> str:
    """Return a type as text, without modules and with bars for unions."""
    if get_origin(annotation) in (UnionType, Union):
        return " | ".join(map(plain, get_args(annotation)))
    text = inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).replace("NoneType", "None")


def parameter_of(parameter: inspect.Parameter, home: Any) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {annotation_of(parameter.annotation, home)}"
    if parameter.default is not parameter.empty:
        text += f" = {default_of(parameter.default)}"
    return text


def default_of(value: Any) -> str:
    """Return a default as Python code, or `…` if that is long."""
    text = repr(value)
    return text if len(text) <= 30 and "<" not in text else "…"


def signature_of(value: Any, name: str) -> str:
    """Return a function's signature, over several lines if it is too long for one."""
    signature = inspect.signature(value)
    parts, marked = [], False
    for each in signature.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and not marked:
            parts.append("*")
        marked = marked or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        parts.append(parameter_of(each, value))
    given = signature.return_annotation
    end = "" if given is signature.empty else f" -> {annotation_of(given, value)}"
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end}"])


def items_of(sections: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the sections of a docstring as Markdown lists."""
    for section, heading in HEADINGS.items():
        if items := sections.get(section):
            yield f"**{heading}**\n"
            names = (", ".join(f"`{each}`" for each in name.split(", ")) for name in items)
            yield (
                "\n".join(
                    f"- {name}: {text}" if key else text
                    for name, (key, text) in zip(names, items.items(), strict=True)
                )
                + "\n"
            )


def code(text: str) -> str:
    return f"```py\n{text}\n```\n"


def function(value: Any, name: str) -> str:
    """Return the reference of a function, in Markdown."""
    doc = doc_of(value)
    start = "async " if inspect.iscoroutinefunction(value) else ""
    return "\n".join([code(f"{start}{signature_of(value, name)}"), f"{doc.text}\n", *items_of(doc.sections)])


def fields_of(kind: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield name, type and default of each field of a model or a dataclass."""
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            known = not field.is_required() and field.default_factory is None
            yield name, field.annotation, default_of(field.default) if known else ""
    elif dataclasses.is_dataclass(kind):
        for each in dataclasses.fields(kind):
            if not each.name.startswith("_"):
                missing = each.default is dataclasses.MISSING
                yield each.name, each.type, "" if missing else default_of(each.default)


def members_of(kind: Any) -> Iterator[str]:
    """Yield the methods and properties of a class, each with the first paragraph of its docstring."""
    known = {name for name, *_ in fields_of(kind)}
    homes = [each for each in kind.__mro__ if each.__module__.startswith("redraft.")]
    for name in dict.fromkeys(name for home in homes for name in vars(home)):
        value = inspect.getattr_static(kind, name)
        if name.startswith("_") or name in known or name in INHERITED:
            continue
        about = line_of((inspect.getdoc(value) or "").split("\n\n")[0])
        if isinstance(value, property):
            yield f"- `{name}`: {about}"
        elif callable(getattr(kind, name)):
            called = " ".join(signature_of(getattr(kind, name), name).split())
            yield f"- `{called.replace('( ', '(').replace(', )', ')')}`: {about}"


def a_class(kind: Any) -> str:
    """Return the reference of a class, in Markdown: its fields, then its methods and properties."""
    doc = doc_of(kind)
    told = doc.sections.pop("Attributes", {}) | doc.sections.pop("Args", {})
    fields = []
    for field, annotation, default in fields_of(kind):
        about = f"`{annotation_of(annotation, kind)}`" + (f" = `{default}`" if default else "")
        fields.append(f"- `{field}` ({about}){f': {told.pop(field)}' if field in told else ''}")
    fields += [f"- `{field}`: {text}" for field, text in told.items()]
    members = list(members_of(kind))
    lines = [f"{doc.text}\n"]
    if fields:
        lines += ["**Fields**\n", "\n".join(fields) + "\n"]
    if members:
        lines += ["**Methods and properties**\n", "\n".join(members) + "\n"]
    return "\n".join([*lines, *items_of(doc.sections)])


def part(name: str) -> str:
    """Return the reference of a public name, in Markdown."""
    value = getattr(redraft, name)
    if isinstance(value, UnionType):
        return f"```py\n{name} = {annotation_of(value, value)}\n```\n"
    return a_class(value) if inspect.isclass(value) else function(value, name)


def page(path: Path) -> str:
    """Return the text that a page of docs/api should have."""
    return PART.sub(lambda found: f"{found[1]}{found[2]}\n{part(found[1])}\n", path.read_text("utf-8"))


TITLES = {
    "PlainOptions": "Revising and sampling",
    "RevisionOptions": "One chain from Python",
    "ModelOption": "The model",
    "ModelOptions": "Other models",
    "MachineOptions": "A model on this machine",
    "WaitOptions": "Waiting for a server",
    "ServerOptions": "A model on a server",
    "Flags": "Checks and budget, as flags",
    "EvalFlags": "A task",
    "EvalFileOptions": "A task in a file",
    "SpendOptions": "Limits of a run",
    "RunOptions": "A run that makes a file",
    "ItemOptions": "A run over a file",
    "FileOptions": "The records of a file",
    "AnswerOptions": "A file of prompts",
    "JudgeOptions": "A judge",
    "JudgeFileOptions": "A file of answers to judge",
    "ChainFlags": "A teacher",
    "ChainOptions": "A file of chains to make",
    "TaskFlags": "Instructions to make",
    "InstructionOptions": "A file of instructions to make",
    "train RunOptions": "Any training",
    "LossOptions": "Training on given data",
    "SftOptions": "Supervised fine-tuning",
    "RewardOptions": "Reward models",
    "PpoOptions": "PPO",
    "SystemKeys": "A recipe of a system",
    "StageKeys": "A stage",
    "Needs": "The needs of a stage",
    "FileKeys": "A file of a recipe",
    "MixRecipe": "A recipe of a mix",
    "MixPart": "A part of a mix",
}
"""The heading of each group of options."""
INTRODUCTION = """\
# Options

<!-- Made by scripts/api_reference.py from the definitions of the options: run `make docs`. -->

This page lists each option once. A function takes the options of several groups. In a command, the options
are flags, with hyphens (`redraft train`: with underscores). In a recipe, they are keys. For a wrong name or
value, an error lists the allowed ones. The default is in the last column, or in square brackets after the
meaning.
"""


def groups_of(model: type[OptionModel]) -> list[type[OptionModel]]:
    """Return an option model and those of its bases that define options, its own first."""
    return [each for each in model.__mro__ if issubclass(each, OptionModel) and own(each)]


def own(model: type[OptionModel]) -> list[str]:
    """Return the names of the options that a model itself defines."""
    return [name for name in options_of(model) if name in vars(model).get("__annotations__", {})]


def title_of(group: type[OptionModel]) -> str:
    training = group.__module__.startswith("redraft.train") and group.__name__ == "RunOptions"
    return TITLES["train RunOptions" if training else group.__name__]


def anchor_of(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def table_of(group: type[OptionModel]) -> str:
    """Return a Markdown table of a group's options: name, values, meaning and default."""
    rows = ["| option | values | meaning | default |", "|---|---|---|---|"]
    for name in own(group):
        option = options_of(group)[name]
        default = option.default if isinstance(option.default, str | int | float) else None
        names = ", ".join(f"`{each}`" for each in (name, option.short) if each)
        cells = (names, allowed(option), option.text, "" if default in (None, "") else f"`{default!r}`")
        rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |".replace("  ", " "))
    return "\n".join(rows)


def options_page() -> str:
    """Return the text that docs/options.md should have."""
    takes = ["| taken by | groups |", "|---|---|"]
    groups: dict[type[OptionModel], None] = {}
    for who, model in USED_BY.items():
        found = groups_of(model)
        groups |= dict.fromkeys(found)
        links = (f"[{title_of(each)}](#{anchor_of(title_of(each))})" for each in found)
        takes.append(f"| {who} | {', '.join(links)} |")
    parts = [f"## {title_of(each)}\n\n{linked_here(table_of(each))}\n" for each in groups]
    return "\n".join([INTRODUCTION, "\n".join(takes) + "\n", *parts])


def linked_here(text: str) -> str:
    return linked(text).replace("](../", "](")


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.md")):
        path.write_text(page(path), encoding="utf-8")
    OPTIONS_PAGE.write_text(options_page(), encoding="utf-8")
