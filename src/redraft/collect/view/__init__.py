"""Views of a chain: its turns, its texts, and its words for comparing."""
