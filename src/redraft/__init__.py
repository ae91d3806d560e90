"""redraft: answers that pass your checks, from the model that you run.

The public names are imported on first use, so that `import redraft` is fast. `__init__.pyi` lists them, for
type checkers and for this module.
"""

from __future__ import annotations

__version__ = "0.1.0"

_EXTRAS = {
    "train": "HfEngine train_ppo train_reward train_sft",
    "data": "dedupe",
    "eval": "aevaluate_file diagnose evaluate evaluate_file",
    "generate": "agenerate_instructions generate_instructions",
}
_STUB: str = __loader__.get_data(f"{__path__[0]}/__init__.pyi").decode()  # type: ignore[name-defined]
_HOME_OF = {words[3]: words[1] for words in map(str.split, _STUB.splitlines()) if words[:1] == ["from"]}
_EXTRA_OF = {name: extra for extra, names in _EXTRAS.items() for name in names.split()}

# `HfEngine` needs the extra 'train', so `from redraft import *` leaves it out.
__all__ = ["__version__", *sorted(_HOME_OF.keys() - {"HfEngine"})]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'redraft' has no attribute {name!r}")
    from importlib import import_module

    try:
        found = getattr(import_module(_HOME_OF[name]), name)
    except ImportError as error:
        if name not in _EXTRA_OF or (error.name or "").startswith("redraft"):
            raise
        stand_in: object = import_module("redraft.errors").absent(name, _EXTRA_OF[name])
        return stand_in
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(["__version__", *_HOME_OF])
