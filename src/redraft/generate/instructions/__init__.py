"""Generate instructions with inputs and outputs, the ways of Alpaca and of Self-Instruct.

    from redraft.generate.instructions import generate

    made = generate("tasks.jsonl", model="default", count=50)
    print(made.kept, made.rejected)

`run` wires a run. `flow` makes the tasks of a request: it asks the `teacher` in the words of `wording`, reads
with `replies`, and judges with `rules` and the `pool`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redraft.generate.instructions.run import Generated as Generated
    from redraft.generate.instructions.run import generate as generate

__all__ = ["Generated", "generate"]


def __getattr__(name: str) -> object:
    """Import the public names when they are used: `--help` reads the options of this package."""
    if name in __all__:
        from redraft.generate.instructions import run

        return getattr(run, name)
    raise AttributeError(name)
