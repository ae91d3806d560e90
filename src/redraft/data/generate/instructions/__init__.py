"""Generate instructions with inputs and outputs, by the method of Alpaca or of Self-Instruct.

`flow` asks the teacher with the texts of `wording`, parses and judges the replies with `rules`, and compares
the instructions with `pool`.
"""
