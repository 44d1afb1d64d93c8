"""What transducers of named sizes take on a machine, from benchmarks/results/recogniser_sizes.json."""

from collections.abc import Iterable
from typing import Any

from pages.markdown import markdown_table

Row = dict[str, Any]
HALF_A_FRAME = 30  # milliseconds that a speaker who stops within a frame waits for its end, on average


def of_sizes(found: dict[str, Any]) -> str:
    """Every size, at 8 bits and below."""
    lines = [
        (
            row["encoder"],
            row["size"],
            str(row["bits"]),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['weight_bytes']:,}",
            *(f"{row[f'{part}_cycles']:,}" for part in ("encoder", "predictor", "joint")),
            f"{row['share_of_real_time']:.2%}",
            f"{row['perceived_milliseconds']:.2f}",
        )
        for row in found["rows"]
    ]
    columns = (
        "encoder|size|bits|parameters|weight bytes|encoder cycles|predictor cycles|joint cycles|of real time|"
        "ms to the result"
    )
    return markdown_table(columns.split("|"), lines)


def at_equal_parameters(found: dict[str, Any]) -> str:
    """Encoders beside each other at int8, sizes at which all have as many parameters."""
    lines = [
        (
            row["size"],
            row["encoder"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs_per_second'] / 1e6:.1f} M",
            f"{row['state_bytes']:,}",
            f"{row['weight_bytes']:,}",
            f"{row['dram_bytes_per_frame']:,}",
            f"{row['perceived_milliseconds']:.3f}",
        )
        for size in ("tiny", "small")
        for row in _where(found, size=size, bits=8)
    ]
    columns = (
        "size|encoder|parameters|MACs a second|state bytes|weight bytes|DRAM bytes a frame|ms to the result"
    )
    return markdown_table(columns.split("|"), lines)


def below_eight_bits(found: dict[str, Any]) -> str:
    """Bytes and waits of the largest size by bits, and what is saved against int8."""
    lines = []
    for plain in _where(found, size="paper", bits=8):
        for row in _where(found, size="paper", encoder=plain["encoder"]):
            lines.append(
                (
                    row["encoder"],
                    str(row["bits"]),
                    f"{row['weight_bytes'] / 1e6:.1f} MB",
                    _change(row, plain, "weight_bytes"),
                    f"{row['encoder_cycles']:,}",
                    f"{row['perceived_milliseconds']:.2f}",
                    _change(row, plain, "perceived_milliseconds"),
                    _change(row, plain, "perceived_milliseconds", HALF_A_FRAME),
                    f"{row['share_of_real_time']:.1%}",
                )
            )
    columns = (
        "encoder|bits|weights|against 8|cycles a frame|ms to the result|against 8|30 ms later|of real time"
    )
    return markdown_table(columns.split("|"), lines)


def lowering(found: dict[str, Any]) -> str:
    """What a lowering itself takes, of the largest size."""
    lines = []
    for row in _where(found, size="paper", bits=8):
        (tiny,) = _where(found, size="tiny", bits=8, encoder=row["encoder"])
        more = (row["lowering_peak_bytes"] - tiny["lowering_peak_bytes"]) / row["float_bytes"]
        lines.append(
            (
                row["encoder"],
                f"{row['float_bytes'] / 1e6:.0f} MB",
                f"{row['lowering_seconds']:.0f} s",
                f"{row['lowering_peak_bytes'] / 1e6:.0f} MB",
                f"{tiny['lowering_peak_bytes'] / 1e6:.0f} MB",
                f"{more:.1f}",
            )
        )
    columns = "encoder|float32 parameters|processor|peak|peak of `tiny`|difference / parameters"
    return markdown_table(columns.split("|"), lines)


def _where(found: dict[str, Any], **wanted: Any) -> Iterable[Row]:
    return [row for row in found["rows"] if all(row[key] == value for key, value in wanted.items())]


def _change(row: Row, plain: Row, key: str, more: float = 0) -> str:
    return "" if row is plain else f"{(row[key] + more) / (plain[key] + more) - 1:+.1%}"
