"""What the sections of benchmarks/README.md are made of."""

from collections.abc import Iterable


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; the first column reads left, figures right. A row of another width is an error."""
    names = list(header)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *map(list, rows)]
    wrong = [line for line in lines if len(line) != len(names)]
    if wrong:
        raise ValueError(f"a row of {len(wrong[0])} cells under {len(names)} headings: {wrong[0]}")
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def time_of(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def circumstances(record: dict) -> str:
    """Where a table was measured, and how to repeat it."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    rounds = "one run"
    if "rounds" in record:
        rounds = f"medians of {record['rounds']} turns, {record['threads']} thread"
    return f"{record['cpu']}; {versions}; {rounds}.\n\n    {record['command']}\n"
