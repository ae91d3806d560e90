"""The loop: draft, criticise, revise, stop.

The package has the name of the public function `redraft.revise`, and Python puts a package into its parent's
attribute of that name once anything in it is imported. So the package can be called like the function.
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
        """Makes a chain: `redraft.revise.api.revise`."""
        from redraft.revise.api import revise

        return revise(prompt, **options)


sys.modules[__name__].__class__ = _CallablePackage
