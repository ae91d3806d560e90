"""The web page: a client of the API in a browser, made of static files.

`mount` serves the files and takes the votes of comparisons; `logins` lets people with keys in. Conversations
are kept in the browser. `vendor` holds libraries of others as they were published, with their licences.
"""
