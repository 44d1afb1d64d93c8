"""The section of benchmarks/README.md on kernels."""

from typing import Any

from rendering import circumstances, markdown_table, time_of

FALLBACK = 3.0  # 10^9 operations per second: a peer that makes fewer has no kernel for this CPU


def judged(row: dict[str, Any]) -> str:
    """The verdict on a row with a target, and whether this CPU could reach it at all.

    `possible` is the ratio of a kernel that does nothing but what bounds the work.

    >>> judged({"target": 3.9, "met": False, "possible": 2.5})
    'out of reach of this CPU, at most 2.5'
    """
    if row["met"]:
        slow = row.get("peer_gops", FALLBACK) < FALLBACK
        return "met, the peer has no kernel for this CPU" if slow else "met"
    possible = row.get("possible", row["target"])
    return f"out of reach of this CPU, at most {possible:.1f}" if possible < row["target"] else "missed"


def kernel_speed(result: dict[str, Any]) -> str:
    """Kernels one by one, what they are to reach and what bounds them."""
    header = (
        "work",
        "peer",
        "target",
        "ratio",
        "verdict",
        "nnaq",
        "the peer",
        "GOP/s",
        "of the peer",
        "bound",
    )
    rows = [
        (
            row["work"],
            row["peer"],
            f"{row['target'] or ''}",
            f"{row['ratio']:.2f}",
            judged(row) if row["target"] else "",
            time_of(row["seconds"]),
            time_of(row["peer_seconds"]),
            *(f"{row[name]:.0f}" if name in row else "" for name in ("gops", "peer_gops")),
            row["bound"],
        )
        for row in result["rows"]
    ]
    before, after = result["load"]
    return (
        f"## Kernels\n\n{_lead(result['ceilings'])}\n{_warning(result['peer_wrong_sums'])}\n"
        f"{markdown_table(header, rows)}\n"
        f"Load of the machine {before:.1f} before the run and {after:.1f} after it. {circumstances(result)}"
    )


def _lead(found: dict[str, Any]) -> str:
    """What the targets were set on, and what this machine can do."""
    memory = ", ".join(f"{level} {rate / 1e9:.0f} GB/s" for level, rate in found["bandwidth"].items())
    products = ""
    if found["products"]:
        rates = [f"{found[name] / 1e9:.0f}" for name in ("products", "multiply_adds")]
        products = f"{found['instruction']}: {rates[0]} GOP/s, {rates[1]} with an addition to a sum each; "
    return (
        "Integer layers race integer layers where the peer has them, else float32; seconds are those of the "
        "processor, which other programs do not lengthen by taking turns. The targets were set on a CPU with "
        "AVX-512 VNNI, which makes four integer products in the time of a float32 one. Of such extensions "
        f"this CPU's code generator has {', '.join(found['features']) or 'none'}, and nnaq's kernels use the "
        f"tier `{found['tier']}`. At most, measured in the same run on one core: {products}float32 "
        f"{found['float32'] / 1e9:.0f} GFLOP/s; reading {memory}. `bound`: the least time that the products "
        "or weights of a work take by these figures, as a share of its time; a target beyond it is out of "
        "reach. A GOP is 10^9 products and sums."
    )


def _warning(share: float) -> str:
    """What a quick peer may owe its speed to."""
    if share == 0:
        return ""
    return (
        f"\nOn this CPU {share:.0%} of the sums that ONNX Runtime's u8 x s8 kernel makes of random codes are "
        "wrong: without VNNI it adds pairs of products in 16 bits and clamps them. That is less work than "
        "the exact sums of nnaq, which alone the bound by products is about.\n"
    )
