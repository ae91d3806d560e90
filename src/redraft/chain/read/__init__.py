"""Read records in the formats of published data sets as chains."""
