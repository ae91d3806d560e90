"""Generate instructions with inputs and outputs, in Alpaca's way or in Self-Instruct's.

`run` does a whole run. `flow` makes the tasks of one request: it asks the teacher with the texts of
`wording`, parses and judges replies by the `rules`, and compares instructions with the `pool`.
"""
