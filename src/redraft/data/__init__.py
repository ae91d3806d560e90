"""Data: from what others publish to clean chains that a model can be trained on.

`read` finds the records, `clean`, `dedupe` and `merge` choose and change them, and `output` writes them.
"""
