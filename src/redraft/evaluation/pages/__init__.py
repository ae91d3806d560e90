"""Reports as HTML pages: `page` fills the one template that all of them share, `charts` draws."""
