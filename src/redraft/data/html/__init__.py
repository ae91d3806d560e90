"""Convert shared chat pages from HTML to markdown: `evidence` finds the texts, `page` converts one."""
