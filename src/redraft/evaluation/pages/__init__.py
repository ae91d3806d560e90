"""Render reports as HTML pages: `page` fills their shared template, and `charts` draws the charts."""
