"""Backpropagation through time over the integers of a recurrent layer.

The forward pass is the node's own: every value is the one its codes stand for, h_{t-1} and c_{t-1} among
them (`nnaq.train.recurrent_trace`). The backward pass is that of the formula over the reals, taken at
those values, by three rules:

    a rounding                      passes the gradient on (straight through)
    a clamp                         stops it where it changed the code; keep[v] below is 0 there, else 1
    sigmoid, tanh by a table        the slope of the ideal function at the argument the table was read at,
                                    s(1-s) and 1-t^2, not the table's; it is 0 where tanh rounds to 1,
                                    which Q0.15 has not

so that it is what backpropagating node by node through the layer's own graph of primitives gives. The
formulas stand in `lstm_gradient` and `gru_gradient`. dv is the gradient of v, * by unit, and tensors are
as in the forward formula: rows are frames and members of the batch. A narrow accumulator that overflows
is not looked at, as in no other node.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnaq.ir.op import Signature
from nnaq.kernels.lstm_numbers import Sums, is_normed
from nnaq.train.gru_gradient import gradients as of_gru
from nnaq.train.lstm_gradient import gradients as of_lstm


def supports(node_op: str, signature: Signature) -> bool:
    """Whether `gradients` knows the integer node: every gru, and every lstm without a norm."""
    return node_op == "gru" or (node_op == "lstm" and not is_normed(signature.attrs))


def gradients(
    node_op: str,
    signature: Signature,
    arrays: Sequence[np.ndarray | None],
    made: Sequence[np.ndarray],
    operands: Sequence[Tensor | None],
    upstream: Sequence[Tensor],
    sums: Sums | None = None,
) -> list[Tensor | None]:
    """The gradient of every real operand, None for one that is absent.

    signature, arrays, made: the integer node, the codes it was given and those it made. operands: the
    operands of the real form, as what the codes stand for. upstream: the gradients of the results. sums: of
    an lstm, where it kept them; else they are made again.
    """
    with torch.no_grad():
        if node_op == "gru":
            return of_gru(signature, arrays, made, operands, upstream)
        return of_lstm(signature, arrays, made, operands, upstream, sums)
