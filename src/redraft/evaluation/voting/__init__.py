"""Blind votes by people on pairs of answers, as Alpaca was judged.

`ballots` decides what a voter is shown, `store` keeps the votes as reviews, and `server` is the web page. The
terminal is the verb's (`cli/vote.py`).
"""
