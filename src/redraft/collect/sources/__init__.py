"""Published data sets as chains, with their provenance and licence."""
