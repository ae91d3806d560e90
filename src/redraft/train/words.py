"""Numbers of things, in words."""


def counted(count: int, what: str) -> str:
    """So many of something whose plural ends in s: `1 row`, `2,000 rows`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
