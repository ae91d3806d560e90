"""Forms of answers that pass checks, and how they are written as grammars for engines."""
