"""redraft: models that check and rewrite their own answers.

The public names are imported on first use, so that `import redraft` is fast.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own is not needed for that, and importing it takes 5 ms
if TYPE_CHECKING:
    from redraft.chain import Chain as Chain
    from redraft.chain import CheckResult as CheckResult
    from redraft.chain import Feedback as Feedback
    from redraft.chain import Prompt as Prompt
    from redraft.chain import Step as Step
    from redraft.chain import Usage as Usage
    from redraft.chain import read_jsonl as read_jsonl
    from redraft.chain import write_jsonl as write_jsonl
    from redraft.engines.base import Sampling as Sampling
    from redraft.engines.load import load_engine as load_engine
    from redraft.engines.price import Price as Price
    from redraft.engines.scripted import ScriptedEngine as ScriptedEngine
    from redraft.errors import RedraftError as RedraftError
    from redraft.revise.api import arevise as arevise
    from redraft.revise.api import revise as revise
    from redraft.revise.api import stream as stream
    from redraft.revise.budget import Budget as Budget
    from redraft.verify.base import Check as Check
    from redraft.verify.base import Outcome as Outcome
    from redraft.verify.base import failed as failed
    from redraft.verify.base import passed as passed
    from redraft.verify.parse import parse_check as parse_check

__version__ = "0.1.0"

_HOMES = {
    "redraft.chain": [
        "Chain",
        "CheckResult",
        "Feedback",
        "Prompt",
        "Step",
        "Usage",
        "read_jsonl",
        "write_jsonl",
    ],
    "redraft.engines.base": ["Sampling"],
    "redraft.engines.load": ["load_engine"],
    "redraft.engines.price": ["Price"],
    "redraft.engines.scripted": ["ScriptedEngine"],
    "redraft.errors": ["RedraftError"],
    "redraft.revise.api": ["arevise", "revise", "stream"],
    "redraft.revise.budget": ["Budget"],
    "redraft.verify.base": ["Check", "Outcome", "failed", "passed"],
    "redraft.verify.parse": ["parse_check"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


if not TYPE_CHECKING:  # it would hide wrong names from type checkers

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'redraft' has no attribute {name!r}")
        from importlib import import_module

        # The import itself may have set the name: `revise` is then the package, which is callable too.
        return globals().setdefault(name, getattr(import_module(_HOME_OF[name]), name))


def __dir__() -> list[str]:
    return sorted(__all__)
