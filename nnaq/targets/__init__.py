"""Machines as data: a target is a TOML file, read into a frozen `Target`; no pass names one.

`load_target("edge8")` takes a shipped target, `load_target("path/to/own.toml")` one of yours.
"""

from nnaq.targets.gemm import Gemm, gemms
from nnaq.targets.library import add_target, load_target, shipped
from nnaq.targets.support import BOUNDARY, exclusion, refusal
from nnaq.targets.target import Array, Dataflow, Host, Memory, Target

__all__ = [
    "BOUNDARY",
    "Array",
    "Dataflow",
    "Gemm",
    "Host",
    "Memory",
    "Target",
    "add_target",
    "exclusion",
    "gemms",
    "load_target",
    "refusal",
    "shipped",
]
