"""Turn published data into clean chains for training.

`published` imports records. `clean`, `dedupe` and `merge` select and change records. `output` writes files.
"""
