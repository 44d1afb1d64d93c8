"""Machines as data: a target is a TOML file, read into a frozen `Target`; no pass names one.

`load_target("edge8")` takes a shipped target, `load_target("path/to/own.toml")` one of yours.
"""

from nnaq.targets.decompression import at_rest, refuses_palette, undecompressed
from nnaq.targets.gemm import Gemm, gemms
from nnaq.targets.library import add_target, load_target, shipped
from nnaq.targets.support import BOUNDARY, exclusion, refusal
from nnaq.targets.target import Array, Dataflow, Decompression, Dma, Energy, Host, Memory, Target

__all__ = [
    "BOUNDARY",
    "Array",
    "Dataflow",
    "Decompression",
    "Dma",
    "Energy",
    "Gemm",
    "Host",
    "Memory",
    "Target",
    "add_target",
    "at_rest",
    "exclusion",
    "gemms",
    "load_target",
    "refusal",
    "refuses_palette",
    "shipped",
    "undecompressed",
]
