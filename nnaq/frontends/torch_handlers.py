"""The table of torch operators that nnaq reads: those of every family in one."""

from nnaq.frontends import (
    torch_arithmetic,
    torch_convolutions,
    torch_layers,
    torch_movement,
    torch_recurrent,
)
from nnaq.frontends.torch_attention import (
    attention,
    carrying,
    log_softmax,
    masked_fill,
    masked_sum,
    softmax,
    triangular,
    where,
)
from nnaq.frontends.torch_importer import Handler
from nnaq.frontends.torch_movement import cast, dropout, filled, shaped, skip

_MOVES = {
    **dict.fromkeys(
        ("_unsafe_view", "flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view"), shaped
    ),
    **dict.fromkeys(("alias", "clone", "contiguous", "detach", "lift_fresh_copy"), skip),
    **dict.fromkeys(("dropout", "feature_dropout"), dropout),
    **dict.fromkeys(("_to_copy", "to", "type_as"), cast),
    **dict.fromkeys(("broadcast_to", "expand", "expand_as"), torch_movement.expand),
    **dict.fromkeys(("reshape_as", "view_as"), torch_movement.like_other),
    "movedim": torch_movement.move_axes,
    "permute": torch_movement.permute,
    "select": torch_movement.select,
    "slice": torch_movement.slice_,
    "t": torch_movement.swap_axes,
    "transpose": torch_movement.swap_axes,
}
HANDLERS: dict[str, Handler] = {
    **torch_arithmetic.HANDLERS,
    **torch_convolutions.HANDLERS,
    **torch_layers.HANDLERS,
    **torch_recurrent.HANDLERS,
    **{f"aten::{name}": carrying(handler) for name, handler in _MOVES.items()},
    **{f"aten::{name}": filled() for name in ("full", "full_like", "new_full")},
    **{f"aten::{name}": filled(0) for name in ("new_zeros", "zeros", "zeros_like")},
    **{f"aten::{name}": filled(1) for name in ("new_ones", "ones", "ones_like")},
    "aten::add": masked_sum(torch_arithmetic.HANDLERS["aten::add"]),
    "aten::arange": torch_movement.arange,
    "aten::cat": torch_movement.concat,
    "aten::chunk": torch_movement.split,
    "aten::constant_pad_nd": torch_movement.pad,
    "aten::embedding": torch_movement.embedding,
    "aten::flip": torch_movement.flip,
    "aten::index": torch_movement.index,
    "aten::index_select": torch_movement.index_select,
    "aten::log_softmax": log_softmax,
    "aten::masked_fill": masked_fill,
    "aten::narrow": torch_movement.narrow,
    "aten::one_hot": torch_movement.one_hot,
    "aten::pad": torch_movement.pad,
    "aten::pixel_shuffle": torch_movement.pixels,
    "aten::repeat": torch_movement.repeat,
    "aten::repeat_interleave": torch_movement.repeat_interleave,
    "aten::roll": torch_movement.roll,
    "aten::scaled_dot_product_attention": attention,
    "aten::softmax": softmax,
    "aten::split": torch_movement.split,
    "aten::split_with_sizes": torch_movement.split,
    "aten::stack": torch_movement.stack,
    "aten::tril": triangular(upper=False),
    "aten::triu": triangular(upper=True),
    "aten::unbind": torch_movement.unbind,
    "aten::unfold": torch_movement.unfold,
    "aten::where": where,
}
HINTS = {
    **torch_recurrent.HINTS,
    "aten::_native_batch_norm_legit": "call module.eval() first",
    "aten::_native_batch_norm_legit_functional": "call module.eval() first",
    "aten::argmax": "take the index from the output, on the host",
    "aten::nonzero": "its size depends on the data; use masks",
    "aten::masked_select": "its size depends on the data; use where",
    "aten::sort": "on the host, behind the outputs",
    "aten::topk": "on the host, behind the outputs",
}
