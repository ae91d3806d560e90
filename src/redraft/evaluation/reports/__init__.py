"""Report on reviews, grades, chains and scores: compare and count them; show text, JSON or a page."""
