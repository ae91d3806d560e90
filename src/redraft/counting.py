"""Counts with their nouns."""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, whose plural ends in s: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
