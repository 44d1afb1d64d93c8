"""Operators from outside (`Op.imports`): a model's node becomes the operator that claims its name."""

from collections.abc import Mapping
from typing import Any

from nnaq.frontends.ports import Unsupported
from nnaq.ir.op import Attr, Op, table


def foreign(kind: str) -> Op | None:
    """The operator that is `DOMAIN::NAME` of ONNX or `NAMESPACE::NAME` of torch, if a plugin has one."""
    return next((op for op in table().values() if kind in op.imports), None)


def attributes(given: Mapping[str, Any]) -> dict[str, Attr]:
    """A node's attributes as a graph holds them. Raises Unsupported for a tensor or a graph among them."""
    return {key: _attribute(key, value) for key, value in given.items() if value is not None}


def _attribute(key: str, value: Any) -> Attr:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, int | float | str) for v in value):
        return tuple(value)
    raise Unsupported(f"its attribute {key} is a {type(value).__name__}", "numbers and texts are read")
