"""Make whole systems with one command, `redraft run`. A recipe lists the stages, which can be resumed."""
