"""Ask for SQL that must run: SQLite tries it on an empty copy of the tables, and its errors are the feedback.

python sql.py [MODEL]
"""

import re
import sqlite3
import sys

import redraft

TABLES = """
CREATE TABLE lighthouses (id INTEGER PRIMARY KEY, name TEXT, built INTEGER, height REAL);
CREATE TABLE keepers (name TEXT, lighthouse INTEGER REFERENCES lighthouses, since INTEGER);
"""
READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)


def query_in(answer: str) -> str:
    fenced = re.search(r"```(?:sql)?\n(.*?)```", answer, re.DOTALL)
    return (fenced[1] if fenced else answer).strip()


def runs(answer: str) -> str | None:
    """Return what SQLite says against the query, or None. It may only read, and not for long."""
    database = sqlite3.connect(":memory:")
    database.executescript(TABLES)
    database.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY
    )
    database.set_progress_handler(lambda: 1, 1_000_000)
    try:
        database.execute(query_in(answer)).fetchall()
    except (sqlite3.Error, sqlite3.Warning) as error:
        return f"SQLite refuses the query: {error}."
    finally:
        database.close()
    return None


if __name__ == "__main__":
    question = "Who has kept a lighthouse that is higher than 30 metres, and since when?"
    prompt = f"Write one SQLite query, in a ```sql block, and nothing else.\n{TABLES}\n{question}"
    chain = redraft.revise(prompt, model=(*sys.argv[1:], "default")[0], checks=[runs], max_tokens=200)
    print(query_in(chain.answer), "\n\n-- it runs" if chain.passed else "\n\n-- it does not run", sep="")
