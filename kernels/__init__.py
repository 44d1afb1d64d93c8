"""The operators of nnaq: one file per family, each op in one place.

Every family file closes with `register(Op(...))`; importing this package fills the operator
table that `nnaq.ir.op.lookup` reads. The verbs are the same everywhere: `infer`, `real`,
`prepare`, `reference`, `fast`, `work`, and for a composite `primitives`.
"""

from nnaq.kernels import boundary, conv, elementwise, lut, matmul, movement, pool, recurrent, roots

__all__ = ["boundary", "conv", "elementwise", "lut", "matmul", "movement", "pool", "recurrent", "roots"]
