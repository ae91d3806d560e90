"""Serve the web page, a client of the API that runs in a browser and consists of static files.

`mount` serves the files, logs in people with keys, and stores the votes of comparisons. Conversations are
stored in the browser. `vendor` contains unchanged third-party libraries and their licences.
"""
