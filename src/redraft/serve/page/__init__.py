"""The web page: chat and compare in a browser, with each step of an answer.

`mount` puts it before the API and lets people in. `blocks` is its layout; `work` makes the answers of
conversations and comparisons; `view` writes their HTML, and `markdown` that of texts. Only `blocks` knows
Gradio, which is imported when the page is opened for the first time.
"""
