"""Tiers: how wide the vectors of kernels are, chosen from Numba's own code generator.

    words_16   vectors of 16 x i32: for AVX-512BW
    words_8    vectors of 8 x i32: for AVX2 and others

Both multiply pairs of 16-bit entries in plain vector IR, which LLVM turns into vpmaddwd where there is one
and into whatever the CPU has elsewhere; so either can be forced on any CPU by `NNAQ_TIER`. The choice reads
the features that Numba compiles for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES count), not the CPU: an
instruction that the code generator does not have would end the process. All tiers give the same integers.
"""

import os
from dataclasses import dataclass
from functools import cache

from numba.core.registry import cpu_target

from nnaq.errors import NnaqError


@dataclass(frozen=True)
class Tier:
    """lanes: i32 per vector; suits: features of a code generator for which it is the fastest."""

    name: str
    lanes: int
    suits: tuple[str, ...] = ()


TIERS = (Tier("words_16", 16, ("avx512bw",)), Tier("words_8", 8))
VARIABLE = "NNAQ_TIER"


@cache
def features() -> frozenset[str]:
    """What Numba's code generator may use, for example `avx2`."""
    _, _, listed = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(word[1:] for word in listed.split(",") if word.startswith("+"))


@cache
def tier() -> Tier:
    """The tier in use: the first that suits the code generator, or the one that `NNAQ_TIER` names.

    Raises NnaqError for a name that is none.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return next(t for t in TIERS if features().issuperset(t.suits))
    found = next((t for t in TIERS if t.name == wanted), None)
    if found is None:
        raise NnaqError(f"{VARIABLE}={wanted}: no such tier; there are {', '.join(t.name for t in TIERS)}")
    return found
