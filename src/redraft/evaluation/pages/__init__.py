"""Render reports as HTML pages: `page` fills the shared template, and `charts` draws the charts."""
