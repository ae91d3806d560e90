"""One base model with adapters by role."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

import redraft
from redraft.engines.load import parse_reference
from redraft.engines.roles import RoleEngine, references_by_role
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import RedraftError

CRITICISM = "Wrong. Revision is needed.\n\n### Revision 1:\n42\n\n### Feedback 2:\nRevision is not needed."


@pytest.mark.parametrize(
    ("ref", "both"),
    [
        ("default+a.gguf", None),
        ("default+a@b.gguf", None),
        ("default+a.gguf@answer+b.gguf@revise", ("default+a.gguf", "default+b.gguf")),
        ("default+b.gguf@revise", ("default", "default+b.gguf")),
        ("default+c.gguf+a.gguf@answer", ("default+c.gguf+a.gguf", "default+c.gguf")),
        ("dir+a@answer+b@revise", ("dir+a", "dir+b")),
    ],
)
def test_adapters_are_told_apart_by_role(ref: str, both: tuple[str, str] | None) -> None:
    assert references_by_role(ref) == both


def test_a_reference_names_the_adapters_of_both_roles(tmp_path: Path) -> None:
    model, a, b = (tmp_path / f"{name}.gguf" for name in "mab")
    named = parse_reference(f"{model}+{a}@answer+{b}@revise")
    assert (named.target, named.adapters, named.revising) == (str(model), (a,), (b,))


def test_an_adapter_of_a_role_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RedraftError, match=r"gone\.gguf"):
        redraft.revise("2 + 2?", model=f"default+{tmp_path / 'gone.gguf'}@revise")


async def test_each_role_has_its_engine() -> None:
    answers, revises = ScriptedEngine(["41"]), ScriptedEngine([CRITICISM])
    async with aclosing(RoleEngine(answers, revises)) as engine:
        chain = await redraft.arevise("What is 40 + 2?", model=engine)
    assert [step.answer for step in chain.steps] == ["41", "42"]
    assert (len(answers.calls), len(revises.calls)) == (1, 1)
    assert chain.stop == "accepted"
