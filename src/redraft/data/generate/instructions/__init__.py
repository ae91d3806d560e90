"""Generate instructions with inputs and outputs, in the ways of Alpaca and of Self-Instruct.

`run` makes a run. `flow` makes the tasks of a request: it asks the teacher in the words of `wording`, reads
and judges with `rules`, and compares with the `pool`.
"""
