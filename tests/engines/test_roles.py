"""One base model with adapters by role."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

import redraft
from redraft.engines.base import EngineRole
from redraft.engines.load import load_engine, parse_reference
from redraft.engines.scripted import ScriptedEngine
from redraft.engines.wrapped import RoleEngine, references_by_role
from redraft.errors import RedraftError
from tests.gguf_files import lora, tiny_model

CRITICISM = "Wrong. Revision is needed.\n\n### Revision 1:\n42\n\n### Feedback 2:\nRevision is not needed."


@pytest.mark.parametrize(
    ("ref", "refs"),
    [
        ("default+a.gguf", ()),
        ("default+a@b.gguf", ()),
        ("default+a.gguf@answer+b.gguf@revise", ("default", "default+a.gguf", "default+b.gguf")),
        ("default+b.gguf@revise", ("default", "default", "default+b.gguf")),
        (
            "default+c.gguf+a.gguf@answer",
            ("default+c.gguf", "default+c.gguf+a.gguf", "default+c.gguf"),
        ),
        ("dir+a@answer+b@revise", ("dir", "dir+a", "dir+b")),
    ],
)
def test_adapters_are_told_apart_by_role(ref: str, refs: tuple[str, ...]) -> None:
    assert tuple(references_by_role(ref).values()) == refs


def test_a_reference_names_the_adapters_of_both_roles(tmp_path: Path) -> None:
    model, a, b = (tmp_path / f"{name}.gguf" for name in "mab")
    named = parse_reference(f"{model}+{a}@answer+{b}@revise")
    assert (named.target, named.adapters) == (str(model), ())
    assert named.roles == {"": (), "answer": (a,), "revise": (b,)}


async def test_the_adapter_that_criticises_says_how_certain_it_must_be(tmp_path: Path) -> None:
    model, size = tiny_model(tmp_path / "m.gguf"), (32, 32)
    answers = lora(tmp_path / "a.gguf", size=size, more={"redraft.certain": 0.25})
    critic = lora(tmp_path / "c.gguf", size=size, more={"redraft.certain": 0.5})
    for ref, certain in (
        (f"{model}", 0.0),
        (f"{model}+{critic}", 0.5),
        (f"{model}+{answers}@answer+{critic}@revise", 0.5),
    ):
        async with aclosing(await load_engine(ref, engine="llamacpp", threads=1)) as engine:
            assert engine.info.certain == certain


def test_an_adapter_of_a_role_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RedraftError, match=r"gone\.gguf"):
        redraft.revise("2 + 2?", model=f"default+{tmp_path / 'gone.gguf'}@revise")


async def test_each_role_has_its_engine_and_one_that_is_not_asked_is_not_opened() -> None:
    opened: dict[str, ScriptedEngine] = {}

    async def opens(role: str, reply: str) -> ScriptedEngine:
        opened[role] = ScriptedEngine([reply])
        return opened[role]

    replies: dict[EngineRole, str] = {"": "Hello.", "answer": "41", "revise": CRITICISM}
    engines = {role: partial(opens, role, reply) for role, reply in replies.items()}
    async with aclosing(await RoleEngine.start(engines)) as engine:
        assert list(opened) == [""]
        chain = await redraft.arevise("What is 40 + 2?", model=engine)
        assert [step.answer for step in chain.steps] == ["41", "42"]
        assert chain.stop == "accepted"
        assert {role: len(each.calls) for role, each in opened.items()} == {"": 0, "answer": 1, "revise": 1}
        chain = await redraft.arevise("Say hello.", model=engine, checks=["words<=3"])
        assert chain.answer == "Hello."  # with checks, the base answers
