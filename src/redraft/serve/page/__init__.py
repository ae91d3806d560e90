"""The web page: a client of the API in a browser, made of static files.

`mount` serves the files, lets people with keys in, and takes the votes of comparisons. Conversations are kept
in the browser. `vendor` holds libraries of others as they were published, with their licences.
"""
