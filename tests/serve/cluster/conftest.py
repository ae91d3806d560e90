"""Each command runs in an empty folder of its own."""

from __future__ import annotations

import os

from tests.cli.conftest import _folder
from tests.serve.cluster.heads import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # Ray reads it when it is imported, as some modules do here
__all__ = ["_folder"]
