"""Energy of one operator on the accelerator, in picojoules.

    energy = products * passes * mac + bytes_sram * sram_byte + bytes_dram * dram_byte
           + elements * element + look-ups * lookup + expanded indices * codeword

Figures of one each are the target's (`Energy`), counts are those the cycles come from. Nothing is
counted for waiting or leakage, and nothing for the host: what it takes is no target's to say.
"""

from dataclasses import dataclass

from nnaq.targets import Energy


@dataclass(frozen=True)
class Counts:
    """What one operator does. products: MACs on the array, each as often as its operands pass."""

    products: int = 0
    sram_bytes: int = 0
    dram_bytes: int = 0
    elements: int = 0
    lookups: int = 0
    codewords: int = 0


def picojoules(counts: Counts, energy: Energy | None) -> float | None:
    """Picojoules of these counts; None where the target says nothing."""
    if energy is None:
        return None
    return (
        counts.products * energy.mac
        + counts.sram_bytes * energy.sram_byte
        + counts.dram_bytes * energy.dram_byte
        + counts.elements * energy.element
        + counts.lookups * energy.lookup
        + counts.codewords * energy.codeword
    )
