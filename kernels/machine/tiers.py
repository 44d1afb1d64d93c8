"""Tiers: which products kernels are made of and how wide vectors are, from Numba's own code generator.

    bytes_16         16 x i32, four products of bytes per lane by vpdpbusd        AVX-512 VNNI
    bytes_8          8 x i32, the same                                            AVX-VNNI
    bytes_arm        8 x i32, by two sdot                                         ARM with the dot product
    words_16         16 x i32, two products of words per lane                     AVX-512BW
    words_8          8 x i32, the same                                            AVX2 and all others
    bytes_16_plain   bytes_16 with the meaning of its instruction in plain IR     only where it is forced
    bytes_8_plain    bytes_arm likewise                                           only where it is forced

The first that suits is in use, or the one that `NNAQ_TIER` names. Words and plain tiers are plain vector IR,
which LLVM turns into vpmaddwd where there is one and into whatever the CPU has elsewhere: they can be forced
anywhere. What suits is read from the features that Numba compiles for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES
count), not from the CPU: an instruction that the code generator does not have would end the process, so that
a tier with such an instruction cannot be forced either. All tiers give the same integers.

Bytes multiply activations of i8 by weights of i8. All other products are made of words in every tier.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from numba.core.registry import cpu_target

from nnaq.errors import NnaqError

Features = tuple[str, ...]


@dataclass(frozen=True)
class Dot:
    """sums[i] + Σ_{j<4} a[4i+j] * b[4i+j] modulo 2^32, of bytes; those of b are signed.

    function: of LLVM, (sums, a, b) -> sums, for `lanes` sums; None for plain IR. unsigned: whether bytes of a
    are. needs: sets of features; a code generator must have one of them.
    """

    function: str | None
    lanes: int
    unsigned: bool
    needs: tuple[Features, ...] = ((),)


@dataclass(frozen=True)
class Tier:
    """lanes: i32 per vector; dot: how bytes are multiplied, None where they are widened to words.

    rows: of the largest tile; suits: sets of features, for any of which it is chosen before those behind it.
    """

    name: str
    lanes: int
    rows: int
    dot: Dot | None
    suits: tuple[Features, ...]

    def runs_on(self, features: Collection[str]) -> bool:
        """Whether a code generator of such features has what the tier is made of."""
        return self.dot is None or any(set(need) <= set(features) for need in self.dot.needs)


VNNI_512, VNNI_256 = (("avx512vnni",),), (("avxvnni",), ("avx512vnni", "avx512vl"))
ARM = (("neon", "dotprod"),)
NEVER: tuple[Features, ...] = ()
TIERS = (
    Tier("bytes_16", 16, 12, Dot("llvm.x86.avx512.vpdpbusd.512", 16, True, VNNI_512), VNNI_512),
    Tier("bytes_8", 8, 6, Dot("llvm.x86.avx512.vpdpbusd.256", 8, True, VNNI_256), VNNI_256),
    Tier("bytes_arm", 8, 6, Dot("llvm.aarch64.neon.sdot.v4i32.v16i8", 4, False, ARM), ARM),
    Tier("words_16", 16, 6, None, (("avx512bw",),)),
    Tier("words_8", 8, 6, None, ((),)),
    Tier("bytes_16_plain", 16, 12, Dot(None, 16, True), NEVER),
    Tier("bytes_8_plain", 8, 6, Dot(None, 8, False), NEVER),
)
VARIABLE = "NNAQ_TIER"


@cache
def features() -> frozenset[str]:
    """What Numba's code generator may use, for example `avx2`."""
    _, _, listed = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(word[1:] for word in listed.split(",") if word.startswith("+"))


def suited(given: Collection[str]) -> Tier:
    """The tier that a code generator of such features gets."""
    return next(t for t in TIERS if any(set(suit) <= set(given) for suit in t.suits))


def available() -> tuple[str, ...]:
    """The tiers that can be forced here."""
    return tuple(t.name for t in TIERS if t.runs_on(features()))


@cache
def tier() -> Tier:
    """The tier in use: the first that suits the code generator, or the one that `NNAQ_TIER` names.

    Raises NnaqError for a name that is none, and for a tier that the code generator has no instruction for.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return suited(features())
    found = next((t for t in TIERS if t.name == wanted), None)
    if found is None:
        raise NnaqError(f"{VARIABLE}={wanted}: no such tier; there are {', '.join(t.name for t in TIERS)}")
    if not found.runs_on(features()):
        raise NnaqError(
            f"{VARIABLE}={wanted}: Numba's code generator has no such instruction for this CPU; "
            f"there are {', '.join(available())}"
        )
    return found
