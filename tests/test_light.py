"""redraft with its core dependencies alone: every name can be looked at, and what needs more says so."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

LIGHT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
import redraft
"""
MODULES = {"opentelemetry-sdk": "opentelemetry", "opentelemetry-exporter-otlp-proto-http": "opentelemetry"}


def light(code: str) -> str:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = {name: each for name, each in project["optional-dependencies"].items() if name != "dev"}
    names = {part.split(">")[0].split("[")[0] for each in extras.values() for part in each} - {"redraft"}
    absent = {MODULES.get(name, name.replace("-", "_")) for name in names} | {"starlette"}
    command = [sys.executable, "-c", LIGHT.format(absent=sorted(absent)) + code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


LOOKS = """
from redraft import *; print(callable(diagnose))
print(all(hasattr(redraft, name) for name in dir(redraft)))
import pydoc; print('revise' in pydoc.render_doc(redraft))
from unittest.mock import create_autospec; print(bool(create_autospec(redraft)))
import inspect; print('revise' in dict(inspect.getmembers(redraft)))
print(not isinstance(1, redraft.HfEngine))
"""


def test_every_name_can_be_looked_at() -> None:
    assert light(LOOKS).split() == ["True"] * 6


USES = {
    "redraft.diagnose([])": "eval",
    "redraft.evaluate('gsm8k', [])": "eval",
    "redraft.HfEngine.start": "train",
    "redraft.HfEngine('folder')": "train",
}


def test_using_it_says_what_to_install() -> None:
    uses = [f"try: {use}\nexcept redraft.RedraftError as error: print(repr(str(error)))\n" for use in USES]
    for said, extra in zip(light("".join(uses)).splitlines(), USES.values(), strict=True):
        assert f"needs the extra '{extra}'" in said
        assert f"pip install '.[{extra}]' (in the checkout of redraft)" in said


def test_a_core_dependency_that_is_broken_is_named() -> None:
    code = "try: redraft.revise\nexcept ImportError as error: print(error.name)"
    assert light(f"sys.modules['pydantic'] = None\n{code}") == "pydantic\n"
