"""Many machines: Ray, where it is already, runs what redraft does on one. Needs the extra `cluster`."""
