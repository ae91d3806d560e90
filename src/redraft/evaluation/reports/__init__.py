"""Report on reviews, grades and chains, as text, JSON or a page."""
