"""Generate instructions with inputs and outputs, the ways of Alpaca and of Self-Instruct.

`run` wires a run. `flow` makes the tasks of a request: it asks the `teacher` in the words of `wording`, reads
with `replies`, and judges with `rules` and the `pool`.
"""
