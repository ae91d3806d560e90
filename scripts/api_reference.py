"""Writes what docs/api/ says of the public names, and docs/options.md. `make docs` runs it.

A page of docs/api is written by hand, examples too. Between `<!-- redraft.NAME -->` and its end stands what
the docstring and the signature of a name say, and this script writes it. docs/options.md is made whole,
from the models of the options. A test fails when a page is not current.
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
    "what a stage `needs`": Needs,
    "its `files`": FileKeys,
    "a recipe of `redraft data merge`": MixRecipe,
    "its `parts`": MixPart,
}
"""What takes options, and which."""


class Doc(NamedTuple):
    """A docstring in its parts: the text, and the items of each section by name."""

    text: str
    sections: dict[str, dict[str, str]]


def doc_of(value: Any) -> Doc:
    """The docstring of a name, without the list of options that `revise` and its like end with."""
    text, sections = f"{inspect.getdoc(value) or ''}\n", {}
    for found in SECTION.finditer(text):
        body = textwrap.dedent(found[2])
        items = {item[1]: line_of(item[2]) for item in ITEM.finditer(body)}
        sections[found[1]] = items or {"": line_of(body)}
    return Doc(linked(SECTION.sub("", text).strip()), sections)


def line_of(text: str) -> str:
    return linked(" ".join(text.split()))


def linked(text: str) -> str:
    """The text with links to the pages that it names."""
    text = text.replace("As listed below", "[Options](../options.md)")
    text = re.sub(r" \(reference/\w+\.md\)", "", text)  # facts that redraft was written by
    return re.sub(r"\bdocs/([\w/]+\.md)", r"[\1](../\1)", text)


def annotation_of(annotation: Any, home: Any) -> str:
    """A type as a reader knows it: without modules, and what a union or choices hold in place of a name."""
    text = annotation if isinstance(annotation, str) else plain(annotation)

    def expanded(name: re.Match[str]) -> str:
        named = getattr(inspect.getmodule(home), name[0], None)
        return plain(named) if isinstance(named, UnionType) or get_origin(named) is Literal else name[0]

    return re.sub(r"\b[A-Z]\w+(?!\[)\b", expanded, text)


def plain(annotation: Any) -> str:
    """A type without modules, and with bars for unions."""
    if get_origin(annotation) in (UnionType, Union):
        return " | ".join(map(plain, get_args(annotation)))
    text = inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).replace("NoneType", "None")


def parameter_of(parameter: inspect.Parameter, home: Any) -> str:
    """A parameter as a signature shows it."""
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {annotation_of(parameter.annotation, home)}"
    if parameter.default is not parameter.empty:
        text += f" = {default_of(parameter.default)}"
    return text


def default_of(value: Any) -> str:
    """A default as it would be typed, or `…` if that is long."""
    text = repr(value)
    return text if len(text) <= 30 and "<" not in text else "…"


def signature_of(value: Any, name: str) -> str:
    """How a function is called, over several lines if one is too short."""
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
    """Arguments, attributes, what comes back and what is raised, as lists."""
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
    """What is said of a function."""
    doc = doc_of(value)
    start = "async " if inspect.iscoroutinefunction(value) else ""
    return "\n".join([code(f"{start}{signature_of(value, name)}"), f"{doc.text}\n", *items_of(doc.sections)])


def fields_of(kind: Any) -> Iterator[tuple[str, Any, str]]:
    """Name, type and default of each field of a model or a dataclass."""
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
    """The methods and properties of a class, each with the first sentence of its docstring."""
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
    """What is said of a class: fields, then what it can do."""
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
    """What the reference says of a public name."""
    value = getattr(redraft, name)
    if isinstance(value, UnionType):
        return f"```py\n{name} = {annotation_of(value, value)}\n```\n"
    return a_class(value) if inspect.isclass(value) else function(value, name)


def page(path: Path) -> str:
    """A page of docs/api as it has to be."""
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
    "TaskOptions": "Instructions to make",
    "InstructionOptions": "A file of instructions to make",
    "train RunOptions": "Any training",
    "LossOptions": "Training on given data",
    "SftOptions": "Supervised fine-tuning",
    "RewardOptions": "Reward models",
    "PpoOptions": "PPO",
    "SystemKeys": "A recipe of a system",
    "StageKeys": "A stage",
    "Needs": "What a stage needs",
    "FileKeys": "A file of a recipe",
    "MixRecipe": "A recipe of a mix",
    "MixPart": "A part of a mix",
}
"""The heading of each group of options."""
INTRODUCTION = """\
# Options

<!-- Made by scripts/api_reference.py from the definitions of the options: run `make docs`. -->

Each option, said once. A function takes those of several groups. A command has the same ones as flags, with
hyphens (`redraft train`: with underscores), and recipes have them as keys. A wrong name or value is an error
that says what is allowed. Square brackets in a meaning hold what happens if the option is left out.
"""


def groups_of(model: type[OptionModel]) -> list[type[OptionModel]]:
    """The models that an option model is made of, its own first."""
    return [each for each in model.__mro__ if issubclass(each, OptionModel) and own(each)]


def own(model: type[OptionModel]) -> list[str]:
    """The options that are defined in a model itself."""
    return [name for name in options_of(model) if name in vars(model).get("__annotations__", {})]


def title_of(group: type[OptionModel]) -> str:
    training = group.__module__.startswith("redraft.train") and group.__name__ == "RunOptions"
    return TITLES["train RunOptions" if training else group.__name__]


def anchor_of(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def table_of(group: type[OptionModel]) -> str:
    """The options of a group: what each takes and means, and its value if it is left out."""
    rows = ["| option | what it takes | meaning | if left out |", "|---|---|---|---|"]
    for name in own(group):
        option = options_of(group)[name]
        default = option.default if isinstance(option.default, str | int | float) else None
        names = ", ".join(f"`{each}`" for each in (name, option.short) if each)
        cells = (names, allowed(option), option.text, "" if default in (None, "") else f"`{default!r}`")
        rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |".replace("  ", " "))
    return "\n".join(rows)


def options_page() -> str:
    """docs/options.md as it has to be."""
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
