"""Writes the TypedDicts of keyword arguments, for `**options: Unpack[...]`, from the models of the options.

A type checker cannot take the fields of a model as keywords. `make docs` runs this, and a test fails when a
file is not current. To add one, add a line to `PAGES`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"


PAGES = {
    "redraft.revision.keywords": ("redraft.revision.options", "RevisionOptions", ["output"]),
    "redraft.generate.keywords": ("redraft.generate.options", "ChainOptions", []),
    "redraft.generate.instructions.keywords": ("redraft.generate.options", "InstructionOptions", ["model"]),
    "redraft.evaluation.judging.keywords": ("redraft.evaluation.judging.run", "JudgeFileOptions", []),
    "redraft.evaluation.tasks.keywords": ("redraft.evaluation.tasks.run", "EvalFileOptions", []),
    "redraft.runs.keywords": ("redraft.runs.options", "AnswerOptions", []),
}
"""Module to write: the module and name of a model, and options that signatures type by themselves."""


def parsed(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse((SOURCE / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))


def homes(module: str) -> dict[str, str]:
    """The names that a module has, each with the module that it is imported from."""
    found = {}
    for node in parsed(module).body:
        match node:
            case ast.ImportFrom(module=str(home), names=names):
                found |= {each.asname or each.name: home for each in names}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.ClassDef(name=name):
                found[name] = module
    return found


def fields(module: str, name: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name and type of each option of a model, with the homes of the names in the module."""
    known = homes(module)
    if known[name] != module:
        yield from fields(known[name], name)
        return
    model = next(each for each in parsed(module).body if isinstance(each, ast.ClassDef) and each.name == name)
    for base in reversed(model.bases):
        if (below := ast.unparse(base)) != "OptionModel":
            yield from fields(module, below)
    for each in model.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id, taken(each.annotation, module), known


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


def page(module: str, name: str, apart: list[str]) -> str:
    """The text of a module of keywords."""
    found = {option: (kind, known) for option, kind, known in fields(module, name)}
    names = {
        (known[each.id], each.id)
        for kind, known in found.values()
        for each in ast.walk(ast.parse(kind))
        if isinstance(each, ast.Name) and each.id in known
    }
    imports = [f"from {home} import {each}" for home, each in sorted({*names, ("typing", "TypedDict")})]
    if own := [each for each in imports if each.startswith(f"from {module} ")]:  # it imports this module
        imports = [each for each in imports if each not in own]
        imports += ["from typing import TYPE_CHECKING", "if TYPE_CHECKING:", *(f"    {each}" for each in own)]
    whole = name.removesuffix("Options") + "Keywords"
    rest = f"KeywordsBut{'And'.join(map(str.title, apart))}"
    classes = {whole: ("TypedDict", "All of them.", [*found])}
    if apart:
        classes = {
            rest: (
                "TypedDict",
                f"All but {' and '.join(apart)}.",
                [each for each in found if each not in apart],
            )
        }
        if name == "RevisionOptions":
            classes |= {whole: (rest, "All of them.", apart)}
    lines = [
        f'"""The keyword arguments of `{name}`. Made by scripts/keywords.py."""\n',
        "from __future__ import annotations\n",
        *imports,
    ]
    for group, (base, text, options) in classes.items():
        lines += [f"class {group}({base}, total=False):", f'    """{text} Each can be left out."""\n']
        lines += [f"    {option}: {found[option][0]}" for option in options]
    return tidy("\n".join(lines))


def tidy(text: str) -> str:
    """The text as ruff writes it."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(SOURCE / "redraft/k.py"), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for module, (home, name, apart) in PAGES.items():
        path = (SOURCE / module.replace(".", "/")).with_suffix(".py")
        path.write_text(page(home, name, apart), encoding="utf-8")
