"""`@jit`: Numba with a cache that notices every edit.

Numba's own cache stamp covers only the file a function stands in: an edited helper in another
file leaves stale machine code behind, which a bit-exact project cannot bear. Here the cache
folder's name is a digest of every kernel source, of the Numba version and of a forced tier, so any
edit opens a fresh folder and going back finds the old one. Never fast-math.

Where that folder cannot be written, kernels are compiled anew in every process: Numba itself would
fall back to `__pycache__` beside the sources, where nothing notices an edited helper.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numba
from numba.core import config as numba_config

Function = TypeVar("Function", bound=Callable[..., Any])

KERNELS = Path(__file__).parent / "kernels"


@cache
def cache_folder() -> str:
    """The folder of compiled kernels: `$NNAQ_CACHE` or `~/.cache/nnaq`, then the digest."""
    digest = hashlib.sha256(numba.__version__.encode())
    digest.update(os.environ.get("NNAQ_TIER", "").encode())
    for source in sorted(KERNELS.rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    root = os.environ.get("NNAQ_CACHE") or str(Path.home() / ".cache" / "nnaq")
    return str(Path(root) / digest.hexdigest()[:24])


@cache
def cache_refusal() -> str | None:
    """Why compiled kernels cannot be kept in the cache folder; None where they can."""
    folder = Path(cache_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


@cache
def _keeps() -> bool:
    """Whether compiled kernels are kept; says once in a process that they are not."""
    refusal = cache_refusal()
    if refusal is not None:
        told = f"kernels are compiled anew in every process, {cache_folder()} cannot be written: {refusal}"
        warnings.warn(f"{told}; set NNAQ_CACHE to a folder that can", RuntimeWarning, stacklevel=3)
    return refusal is None


def threads() -> int:
    """How many threads Numba would start: those of NUMBA_NUM_THREADS, or a thread per CPU."""
    count: int = numba_config.NUMBA_NUM_THREADS
    return count


def jit(function: Function) -> Function:
    """Compile `function` with Numba: no Python objects, no bounds checks, integer semantics of C.

    The cache folder is set around the decorator only, so the caches of other libraries stay
    where they are.
    """
    before = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = cache_folder()
    try:
        compiled: Function = numba.njit(cache=_keeps(), error_model="numpy", nogil=True)(function)
    finally:
        numba_config.CACHE_DIR = before
    return compiled
