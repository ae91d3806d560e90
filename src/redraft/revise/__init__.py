"""The loop: draft, criticise, revise, stop.

The package shares its name with the public function `redraft.revise`, and importing anything in it sets that
attribute of `redraft` to the package. So the package is callable like the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.revise.api import Asked
    from redraft.revise.options import Options


class _CallablePackage(ModuleType):
    def __call__(self, prompt: Asked, **options: Unpack[Options]) -> Chain:
        """Make a chain: `redraft.revise.api.revise`."""
        from redraft.revise.api import revise

        return revise(prompt, **options)


sys.modules[__name__].__class__ = _CallablePackage
