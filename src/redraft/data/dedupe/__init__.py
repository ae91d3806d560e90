"""Find duplicates, exact or near, and records that contain evaluation items."""
