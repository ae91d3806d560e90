"""Blind votes by people on pairs of answers, as Alpaca was judged.

`ballots` decides what a voter is shown, and `store` keeps the votes as reviews. The page is in `serve.page`.
"""
