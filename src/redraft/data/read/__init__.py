"""Read any supported file, table, folder or hub dataset as records."""
