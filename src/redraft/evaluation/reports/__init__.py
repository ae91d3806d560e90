"""Reports on reviews, grades, chains and scores: compared, counted, and shown as text, JSON or a page."""
