"""Data: from what others publish to clean chains that a model can be trained on.

`formats.files` reads and writes; `work` spreads records over processes; `dropped` keeps what was taken out.
"""
