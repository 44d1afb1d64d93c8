"""`@jit`: Numba with a cache that notices every edit.

Numba's own cache stamp covers only the file a function stands in: an edited helper in another
file leaves stale machine code behind, which a bit-exact project cannot bear. Here the cache
folder's name is a digest of every kernel source and of the Numba version, so any edit opens a
fresh folder and going back finds the old one. Never fast-math.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config as numba_config

Function = TypeVar("Function", bound=Callable[..., Any])

KERNELS = Path(__file__).parent / "kernels"


@cache
def cache_folder() -> str:
    """The folder of compiled kernels: `$NNAQ_CACHE` or `~/.cache/nnaq`, then the digest."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(KERNELS.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    root = os.environ.get("NNAQ_CACHE") or str(Path.home() / ".cache" / "nnaq")
    return str(Path(root) / digest.hexdigest()[:24])


def jit(function: Function) -> Function:
    """Compile `function` with Numba: no Python objects, no bounds checks, integer semantics of C.

    The cache folder is set around the decorator only, so the caches of other libraries stay
    where they are.
    """
    before = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = cache_folder()
    try:
        compiled: Function = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    finally:
        numba_config.CACHE_DIR = before
    return compiled
