"""nnaq: quantisation and bit-exact emulation for neural network accelerators.

    lower        a model file or a torch module and recordings -> everything a lowering finds out
    load         a model file -> its real graph;  load_module: a torch module -> its real graph
    run          a graph over a recording;  Interpreter: the same, step by step
    Graph, Pass, Target, Recipe, ImportOptions, NnaqError, load_target, load_recipe
    running_mean the mean of all frames so far, for torch modules that stream
    prepare      a torch module -> its twin, which trains through the integer kernels; convert: its integers
    Emulated     the same for a graph whose constants train

The names are found on first use, so that `import nnaq` itself is immediate. What a room holds
beside them stands under its own name, for example `nnaq.simulate.simulate`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnaq.errors import NnaqError
    from nnaq.frontends import ImportOptions, load
    from nnaq.frontends.torch import load as load_module
    from nnaq.frontends.torch_leaves import running_mean
    from nnaq.interpret import Interpreter, run
    from nnaq.ir.graph import Graph
    from nnaq.modules import lower
    from nnaq.passes import Pass
    from nnaq.quantize.recipe import Recipe, load_recipe
    from nnaq.targets import Target, load_target
    from nnaq.train.emulate import Emulated
    from nnaq.train.prepare import convert, prepare

_HOMES = {
    "Emulated": "nnaq.train.emulate",
    "Graph": "nnaq.ir.graph",
    "ImportOptions": "nnaq.frontends",
    "Interpreter": "nnaq.interpret",
    "NnaqError": "nnaq.errors",
    "Pass": "nnaq.passes",
    "Recipe": "nnaq.quantize.recipe",
    "Target": "nnaq.targets",
    "convert": "nnaq.train.prepare",
    "load": "nnaq.frontends",
    "load_module": "nnaq.frontends.torch:load",
    "load_recipe": "nnaq.quantize.recipe",
    "load_target": "nnaq.targets",
    "lower": "nnaq.modules",
    "prepare": "nnaq.train.prepare",
    "run": "nnaq.interpret",
    "running_mean": "nnaq.frontends.torch_leaves",
}

__all__ = [
    "Emulated",
    "Graph",
    "ImportOptions",
    "Interpreter",
    "NnaqError",
    "Pass",
    "Recipe",
    "Target",
    "convert",
    "load",
    "load_module",
    "load_recipe",
    "load_target",
    "lower",
    "prepare",
    "run",
    "running_mean",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nnaq' has no attribute {name!r}")
    home, _, own = _HOMES[name].partition(":")
    return getattr(import_module(home), own or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
