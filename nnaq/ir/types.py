"""What a value is: its dtype, its shape, and the real numbers its integers stand for.

    real = (q - zero_point) * scale

`i8[1,64,56]<0.023, -3>` is a tensor of int8 codes with scale 0.023 and zero_point -3;
`<[0.1, 0.2]@0, 0>` has one scale per entry of axis 0.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.dims import Dim, Shape, canonical, show

# dtype -> (array storage, lowest, highest, bits in memory); i4 rests in int8 arrays, i48 in int64.
_DTYPES: dict[str, tuple[str, int | None, int | None, int]] = {
    "f32": ("float32", None, None, 32),
    "i4": ("int8", -8, 7, 4),
    "i8": ("int8", -128, 127, 8),
    "i16": ("int16", -(2**15), 2**15 - 1, 16),
    "i32": ("int32", -(2**31), 2**31 - 1, 32),
    "i48": ("int64", -(2**47), 2**47 - 1, 48),
    "bool": ("bool", 0, 1, 8),
    "index": ("int64", -(2**63), 2**63 - 1, 64),
}
DTYPES = tuple(_DTYPES)


def storage(dtype: str) -> np.dtype:
    """The NumPy dtype that holds values of `dtype`."""
    return np.dtype(_DTYPES[dtype][0])


def bounds(dtype: str) -> tuple[int, int]:
    """Lowest and highest code of an integer dtype."""
    _, low, high, _ = _DTYPES[dtype]
    if low is None or high is None:
        raise GraphError(f"dtype {dtype!r} has no integer bounds")
    return low, high


def bits(dtype: str) -> int:
    """Bits one value takes in memory."""
    return _DTYPES[dtype][3]


@dataclass(frozen=True)
class Quant:
    """The affine map from codes to reals: real = (q - zero_point) * scale.

    `scale` holds one value, or one per entry of `axis`; scales are float64 and positive.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None

    def __post_init__(self) -> None:
        if not self.scale or not (min(self.scale) > 0 and sum(self.scale) < math.inf):  # the sum sees a NaN
            raise GraphError(f"scales must be finite and positive, found {self.scale[:3]}")
        if self.axis is None and len(self.scale) != 1:
            raise GraphError(f"{len(self.scale)} scales need an axis")

    def scales(self, rank: int) -> np.ndarray:
        """The scales as a float64 array that broadcasts against a tensor of `rank`."""
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = len(self.scale)
        return np.array(self.scale, np.float64).reshape(shape)

    def __str__(self) -> str:
        if self.axis is None:
            return f"<{self.scale[0]!r}, {self.zero_point}>"
        return f"<[{', '.join(map(repr, self.scale))}]@{self.axis}, {self.zero_point}>"


@dataclass(frozen=True)
class Palette:
    """How an i8 constant rests in memory: `bits`-wide indices into tables of int8 codes.

    To the arithmetic the constant is i8; a palette changes bytes and DMA time, never a result.

    tables  each ascending and distinct, 1 to 2^bits entries
    rows    entries of axis 0 that share a table; 0: all of them, and there is one table
    zeros   how many codes are 0 and rest as one bit each of a zero map, indices being left for the
            others only; None: no map, every code has an index

    Prints as `palette2(-8, 0, 8)`, `palette2@1(-8, 0, 8 | -3, 3)` for a table per row, and
    `palette2+57(-8, 8)` with a zero map of 57 zeros.
    """

    bits: int
    tables: tuple[tuple[int, ...], ...]
    rows: int = 0
    zeros: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8 or not self.tables:
            raise GraphError(f"a palette has 1 to 8 bits and a table, found {self.bits} bits")
        for table in self.tables:
            if not 1 <= len(table) <= 2**self.bits:
                raise GraphError(f"a {self.bits}-bit palette cannot hold {len(table)} entries")
            if list(table) != sorted(set(table)) or table[0] < -128 or table[-1] > 127:
                raise GraphError(f"a palette's entries are ascending int8 codes, found {table[:4]}")
        if self.rows < 0 or (self.rows == 0 and len(self.tables) != 1):
            raise GraphError(f"{len(self.tables)} tables need the rows that share one")
        if self.zeros is not None and (self.zeros < 0 or any(0 in table for table in self.tables)):
            raise GraphError("a palette with a zero map has no entry 0")

    def number(self, row: int) -> int:
        """Which table the codes of a row use."""
        return row // self.rows if self.rows else 0

    def admits(self, shape: Shape) -> bool:
        """Whether there is a table for every row of a constant of this shape."""
        if not self.rows:
            return True
        rows = shape[0] if shape else 1
        return isinstance(rows, int) and len(self.tables) == -(-rows // self.rows)

    def __str__(self) -> str:
        rows = f"@{self.rows}" if self.rows else ""
        zeros = "" if self.zeros is None else f"+{self.zeros}"
        tables = " | ".join(", ".join(map(str, table)) for table in self.tables)
        return f"palette{self.bits}{rows}{zeros}({tables})"


@dataclass(frozen=True)
class TensorType:
    """Type of a value. Prints as `i8[1,64,56]<0.023, -3>` and parses back; sizes are canonical."""

    dtype: str
    shape: Shape
    quant: Quant | None = None
    palette: Palette | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise GraphError(f"no dtype {self.dtype!r}; there are {', '.join(DTYPES)}")
        object.__setattr__(self, "shape", tuple(canonical(dim) for dim in self.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def scale(self) -> float:
        """The one scale of a per-tensor quantised value."""
        if self.quant is None or self.quant.axis is not None:
            raise GraphError(f"{self} has no single scale")
        return self.quant.scale[0]

    @property
    def zero_point(self) -> int:
        return 0 if self.quant is None else self.quant.zero_point

    def with_shape(self, shape: Shape) -> "TensorType":
        return replace(self, shape=shape)

    def __str__(self) -> str:
        quant = "" if self.quant is None else str(self.quant)
        palette = "" if self.palette is None else f" {self.palette}"
        return f"{self.dtype}{show(self.shape)}{quant}{palette}"


_TYPE = re.compile(
    r"(?P<dtype>\w+)\[(?P<shape>[^\]]*)\]"
    r"(<(\[(?P<scales>[^\]]*)\]@(?P<axis>\d+)|(?P<scale>[^,\[\]]+)), (?P<zero>-?\d+)>)?"
    r"( palette(?P<bits>\d)(@(?P<rows>\d+))?(\+(?P<zeros>\d+))?\((?P<tables>[^)]*)\))?"
)


def parse_type(text: str) -> TensorType:
    """The type that prints as `text`.

    >>> parse_type("i8[T,64]<0.5, -3>")
    TensorType(dtype='i8', shape=('T', 64), quant=Quant(scale=(0.5,), zero_point=-3, axis=None), palette=None)
    """
    match = _TYPE.fullmatch(text.strip())
    if match is None:
        raise GraphError(f"not a tensor type: {text!r} (write i8[1,64]<0.1, 0>)")
    try:
        return _type_of(match.groupdict())
    except ValueError as error:
        raise GraphError(f"not a tensor type: {text!r} ({error})") from None


def _type_of(part: Mapping[str, str]) -> TensorType:
    shape = tuple(_dim(d) for d in part["shape"].split(",") if d.strip())
    quant = None
    if part["zero"] is not None:
        scales = tuple(float(s) for s in (part["scales"] or part["scale"]).split(","))
        quant = Quant(scales, int(part["zero"]), None if part["axis"] is None else int(part["axis"]))
    palette = None
    if part["bits"] is not None:
        tables = tuple(tuple(int(t) for t in table.split(",")) for table in part["tables"].split("|"))
        zeros = None if part["zeros"] is None else int(part["zeros"])
        palette = Palette(int(part["bits"]), tables, int(part["rows"] or 0), zeros)
    return TensorType(part["dtype"], shape, quant, palette)


def _dim(text: str) -> Dim:
    text = text.strip()
    return int(text) if text.lstrip("-").isdigit() else text
