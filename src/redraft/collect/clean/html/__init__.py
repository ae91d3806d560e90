"""HTML as markdown: what chat pages are shared as, as plain text that a model can be trained on.

`evidence` tells which texts of a record are HTML; `page` turns one into markdown, by `tags` (what is a tag),
`line` (text and its marks), `blocks` (paragraphs, lists, tables) and `code` (code blocks and formulas).
"""

from redraft.collect.clean.html.page import markdown_of

__all__ = ["markdown_of"]
