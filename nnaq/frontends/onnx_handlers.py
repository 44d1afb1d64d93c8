"""The table of ONNX operators that nnaq reads: one line per family, each in a file of its own.

An operator of another domain stands under `domain::operator`.
"""

from nnaq.frontends import (
    onnx_attention,
    onnx_codes,
    onnx_functions,
    onnx_layers,
    onnx_movement,
    onnx_norms,
    onnx_recurrent,
    onnx_reductions,
    onnx_repeats,
    onnx_resize,
    onnx_sizes,
    onnx_softmax,
)
from nnaq.frontends.onnx_functions import HANDLERS as FUNCTIONS
from nnaq.frontends.onnx_importer import Call, Handler

# Arithmetic that also works on sizes, where a Shape is among the operands.
_OF_SIZES = {
    "Add": onnx_sizes.sum_of,
    "Cast": onnx_sizes.same,
    "Div": onnx_sizes.quotient_of,
    "Identity": onnx_sizes.same,
    "Mul": onnx_sizes.product_of,
    "Sub": onnx_sizes.sum_of,
    "Where": onnx_sizes.choice,
}


def _equal(call: Call) -> None:
    if any(value in call.walk.dims for value in call.node.input):
        return onnx_sizes.equal(call)
    return FUNCTIONS["Equal"](call)


_ALL: dict[str, Handler] = {
    **onnx_functions.HANDLERS,
    **onnx_movement.HANDLERS,
    **onnx_repeats.HANDLERS,
    **onnx_reductions.HANDLERS,
    **onnx_layers.HANDLERS,
    **onnx_norms.HANDLERS,
    **onnx_recurrent.HANDLERS,
    **onnx_softmax.HANDLERS,
    **onnx_attention.HANDLERS,
    **onnx_resize.HANDLERS,
    **onnx_codes.HANDLERS,
    "Equal": _equal,
}

HANDLERS: dict[str, Handler] = _ALL | {
    name: onnx_sizes.or_reals(on_sizes, _ALL[name]) for name, on_sizes in _OF_SIZES.items()
}
