"""Turn data that others publish into clean chains that a model can be trained on.

`published` imports records, `clean`, `dedupe` and `merge` choose and change them, and `output` writes them.
"""
