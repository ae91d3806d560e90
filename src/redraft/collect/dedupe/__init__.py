"""Find records that are alike, exactly or nearly, and records that a benchmark contains."""
