"""How near a work comes to what bounds it on the machine it runs on."""

from typing import Any

from ceilings import Ceilings
from kernel_races import Work


def limit(work: Work, found: Ceilings) -> tuple[float, str]:
    """The least seconds that the products and weights of a work take on this machine, and what sets them."""
    level = found.level(work.resident)
    least = [(work.traffic / found.bandwidth[level], f"reading weights from {level}")]
    if found.products is not None:
        least.append((work.operations / found.products, "integer products"))
    return max(least)


def bounds(work: Work, seconds: float, peer_seconds: float, found: Ceilings) -> dict[str, Any]:
    """How near a work comes to what bounds it, and the best ratio that leaves: `possible`."""
    if not work.operations:
        return {"bound": f"{1e9 * seconds / work.elements:.2f} ns per entry"}
    least, what = limit(work, found)
    return {
        "gops": work.operations / seconds / 1e9,
        "peer_gops": work.operations / peer_seconds / 1e9,
        "possible": peer_seconds / least,
        "bound": f"{least / seconds:.0%} of what {what} allows",
    }
