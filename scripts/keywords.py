"""Writes the TypedDicts of keyword arguments, for `**options: Unpack[...]`, from the models of the options.

A type checker cannot take the fields of a model as keywords. `make docs` runs this, and a test fails when a
file is not current. To add one, add it to `PAGES`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"


PAGES: dict[str, tuple[str, list[str], str]] = {
    "redraft.keywords": (
        "redraft.options",
        ["PlainOptions", "MachineOptions", "WaitOptions", "ServerOptions", "Flags"],
        "",
    ),
    "redraft.revision.keywords": ("redraft.revision.options", ["RevisionOptions"], "output"),
    "redraft.runs.keywords": ("redraft.runs.options", ["RunOptions", "ItemOptions", "AnswerOptions"], ""),
    "redraft.generate.keywords": ("redraft.generate.options", ["ChainOptions"], ""),
    "redraft.generate.instructions.keywords": ("redraft.generate.options", ["InstructionOptions"], "model"),
    "redraft.evaluation.judging.keywords": ("redraft.evaluation.judging.run", ["JudgeFileOptions"], ""),
    "redraft.evaluation.tasks.keywords": ("redraft.evaluation.tasks.run", ["EvalFileOptions"], ""),
}
"""Module to write: where its models are, these, and an option that signatures type by themselves, if any.

A TypedDict inherits from those of the models that its model inherits from, if they have one."""
WRITTEN = {model: module for module, (_, models, _) in PAGES.items() for model in models}


def parsed(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse((SOURCE / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))


def homes(module: str) -> dict[str, str]:
    """The names that a module has, each with the module that it is imported from."""
    found = dict[str, str]()
    for node in parsed(module).body:
        match node:
            case ast.ImportFrom(module=str(home), names=names):
                found |= {each.asname or each.name: home for each in names}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.ClassDef(name=name):
                found[name] = module
    return found


def model_of(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """A model, and the module where it is defined."""
    while (home := homes(module)[name]) != module:
        module = home
    return module, next(
        each for each in parsed(module).body if isinstance(each, ast.ClassDef) and each.name == name
    )


def bases(module: str, name: str) -> Iterator[tuple[str, str]]:
    """Module and name of each model that a model inherits from, the last one first."""
    home, model = model_of(module, name)
    for base in reversed(model.bases):
        if (below := ast.unparse(base)) != "OptionModel":
            yield home, below


def fields(module: str, name: str, *, own: bool = False) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name and type of each option of a model, with the homes of the names in the module.

    `own`: without those of models that have a TypedDict.
    """
    for home, below in bases(module, name):
        if not (own and below in WRITTEN):
            yield from fields(home, below, own=own)
    home, model = model_of(module, name)
    for each in model.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id, taken(each.annotation, home), homes(home)


def inherited(module: str, name: str) -> Iterator[tuple[str, str]]:
    """Module and name of the nearest models that have a TypedDict."""
    for home, below in bases(module, name):
        if below in WRITTEN:
            yield home, below
        else:
            yield from inherited(home, below)


def named(reader: ast.expr, module: str) -> ast.expr:
    """A reader that a module writes in place, or by a name that it or another one gave."""
    if not isinstance(reader, ast.Name) or not (home := homes(module).get(reader.id)):
        return reader
    for each in parsed(home).body:
        match each:
            case ast.Assign(targets=[ast.Name(id=reader.id)], value=value):
                return value
    return reader


def taken(annotation: ast.expr, module: str) -> str:
    """The type of what an option takes: that of its attribute, unless its reader names another."""
    match annotation:
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *readers])):
            calls = [each for each in (named(r, module) for r in readers) if isinstance(each, ast.Call)]
            given = [k.value for call in calls for k in call.keywords if k.arg == "json_schema_input_type"]
            return ast.unparse(given[0] if given else kind)
    return ast.unparse(annotation)


def keywords(name: str) -> str:
    """The name of a model's TypedDict."""
    return f"{name.removesuffix('Options')}Keywords"


Options = dict[str, tuple[str, dict[str, str]]]
"""The type of each option, and the homes of the names in it."""


def added(module: str, name: str) -> Options:
    """The options of a model that the TypedDicts it inherits from do not have."""
    known = {option: kind for each in inherited(module, name) for option, kind, _ in fields(*each)}
    own = {option: (kind, names) for option, kind, names in fields(module, name, own=True)}
    clash = [option for option, (kind, _) in own.items() if known.get(option, kind) != kind]
    assert not clash, f"{name} gives {clash} another type than what it inherits from"
    return {option: found for option, found in own.items() if option not in known}


def classes(name: str, apart: str, above: str, options: Options) -> Iterator[str]:
    """The lines of the TypedDict of a model; with an option apart, those of one without it too."""
    groups = [(keywords(name), above, f"The options of `{name}`.", [*options])]
    if apart:
        but = f"KeywordsBut{apart.title()}"
        groups = [(but, above, f"All but {apart}.", [each for each in options if each != apart])]
        if name == "RevisionOptions":  # some signatures take all
            groups.append((keywords(name), but, "All of them.", [apart]))
    for group, base, text, names in groups:
        yield f"class {group}({base}, total=False):"
        yield f'    """{text} Each can be left out."""\n'
        yield from (f"    {each}: {options[each][0]}" for each in names)


def page(module: str) -> str:
    """The text of a module of keywords."""
    home, models, apart = PAGES[module]
    lines, names = list[str](), set[tuple[str, str]]()
    for name in models:
        above = [(WRITTEN[below], keywords(below)) for _, below in inherited(home, name)]
        above = above or [("typing", "TypedDict")]
        options = added(home, name)
        lines += classes(name, apart, ", ".join(each for _, each in above), options)
        names |= {each for each in above if each[0] != module}
        names |= {
            (known[each.id], each.id)
            for kind, known in options.values()
            for each in ast.walk(ast.parse(kind))
            if isinstance(each, ast.Name) and each.id in known
        }
    own = {each for each in names if each[0] == home != "redraft.options"}
    imports = [f"from {place} import {each}" for place, each in sorted(names - own)]
    if own:  # this module imports the one that is written
        imports += ["from typing import TYPE_CHECKING", "if TYPE_CHECKING:"]
        imports += [f"    from {home} import {each}" for _, each in sorted(own)]
    about = f"Keywords of {', '.join(models)}. From scripts/keywords.py."
    return tidy("\n".join([f'"""{about}"""\n', "from __future__ import annotations\n", *imports, *lines]))


def tidy(text: str) -> str:
    """The text as ruff writes it."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(SOURCE / "redraft/k.py"), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for module in PAGES:
        path = (SOURCE / module.replace(".", "/")).with_suffix(".py")
        path.write_text(page(module), encoding="utf-8")
