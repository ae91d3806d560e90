"""Blind votes by people on pairs of answers, as Alpaca was judged.

`ballots` decides what a voter is shown, and `store` keeps the votes as reviews. `server` is the web page, and
`terminal` asks for keys.
"""
