"""What is to be chosen about a palette: its bits, who shares a table, how the table is found."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from nnaq.errors import RecipeError

Granularity = Literal["per_tensor", "per_gate", "per_channel", "per_group"]
Method = Literal["optimal", "lloyd_max", "mu_law", "uniform", "power_of_two"]
Weighting = Literal["none", "activations"]
Zero = Literal["free", "forced", "mapped"]
Scale = Literal["kept", "fitted"]

_WORDS = {
    "granularity": get_args(Granularity),
    "method": get_args(Method),
    "weighting": get_args(Weighting),
    "zero": get_args(Zero),
    "scale": get_args(Scale),
}


@dataclass(frozen=True)
class PaletteChoice:
    """How the palette of a weight is found.

    bits         width of an index, 1 to 8
    granularity  who shares a table: the tensor, a gate of an LSTM or GRU, an output channel, or
                 `group_size` neighbouring output channels
    method       how the table is found; `optimal` loses least
    weighting    what an error weighs: the same everywhere, or the second moment of the activation it
                 meets in calibration (the diagonal of the layer's Hessian)
    zero         whether 0 must be an entry (`forced`), or rests as one bit of a zero map, with indices
                 for the other weights only (`mapped`)
    scale        keep the scales of the int8 codes, or fit them together with the table

    Raises RecipeError for a choice that does not exist.
    """

    bits: int
    granularity: Granularity = "per_tensor"
    group_size: int | None = None
    method: Method = "optimal"
    weighting: Weighting = "none"
    zero: Zero = "free"
    scale: Scale = "fitted"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise RecipeError(f"a palette has 1 to 8 bits, found {self.bits}")
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise RecipeError(
                    f"a palette's {name} is one of {', '.join(words)}, found {getattr(self, name)!r}"
                )
        if (self.group_size is not None) != (self.granularity == "per_group"):
            raise RecipeError("a palette needs group_size with granularity 'per_group', and only there")
        if self.group_size is not None and self.group_size < 1:
            raise RecipeError(f"a palette's group_size is at least 1, found {self.group_size}")

    def table(self) -> dict[str, Any]:
        """What differs from the defaults, by name; `bits` always stands there."""
        plain = PaletteChoice(self.bits, self.granularity, self.group_size)
        given = asdict(self)
        return {
            name: value
            for name, value in given.items()
            if name == "bits"
            or (name == "granularity" and value != "per_tensor")
            or (name == "group_size" and value is not None)
            or value != getattr(plain, name)
        }

    def __str__(self) -> str:
        rest = [str(value) for name, value in self.table().items() if name != "bits"]
        return " ".join([f"{self.bits} bits", *rest])
