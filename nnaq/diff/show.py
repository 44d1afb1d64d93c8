"""A difference for people: the first entry that parts, and the layers, worst first."""

from rich.console import Console
from rich.table import Column, Table

from nnaq.diff.compare import Difference, LayerDifference

COLUMNS = ("value", "op", "differ", "max LSB", "max |B-A|", "cosine", "SQNR dB", "added dB", "inherited dB")


def show_difference(found: Difference, top: int) -> None:
    """Print a comparison to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log has no edge to wrap at
    print(f"A {found.left}\nB {found.right}")
    if found.first is None:
        print(f"all {len(found.layers)} values that both have are equal")
        return
    first = found.first
    at = ", ".join(map(str, first.index))
    print(
        f"first to part: {first.op} {first.name!r} at [{at}]: {first.left:.9g} in A, {first.right:.9g} in B"
    )
    numbers = (Column(name, justify="right", no_wrap=True) for name in COLUMNS[2:])
    table = Table(Column("value", overflow="fold"), "op", *numbers, box=None, pad_edge=False)
    for layer in found.worst_first()[:top]:
        table.add_row(*row(layer))
    console.print(table, markup=False)
    rest = len(found.layers) - top
    if rest > 0:
        print(f"and {rest} more; --csv writes all")


def row(layer: LayerDifference) -> tuple[str, ...]:
    """One line of the table; a dash where there is no figure."""
    figures = (layer.cosine, layer.sqnr_db, layer.added_db, layer.inherited_db)
    places = (6, 1, 1, 1)
    texts = ("-" if f is None else f"{f:.{p}f}" for f, p in zip(figures, places, strict=True))
    lsb = "-" if layer.max_lsb is None else f"{layer.max_lsb:g}"
    return (layer.name, layer.op, f"{layer.mismatches}/{layer.values}", lsb, f"{layer.max_abs:.4g}", *texts)
