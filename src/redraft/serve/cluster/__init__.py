"""Run redraft on the machines of a Ray cluster. This package needs the extra `cluster`."""
