"""Make whole systems with one command. A recipe lists stages: verbs that run once and can be resumed."""
