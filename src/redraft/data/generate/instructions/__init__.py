"""Generate instructions with inputs and outputs, by the method of Alpaca or of Self-Instruct.

`flow` makes the tasks of one request: it asks the teacher with the texts of `wording`, parses and judges
replies with `rules`, and compares instructions with `pool`.
"""
