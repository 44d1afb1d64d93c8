"""Drawings of a report as SVG text, each one element without a link to anything.

Every drawing is deterministic and keeps its text as text. They are written by hand, shape by shape: a
plotting library takes longer to load than a small model takes to lower.
"""

from nnaq.figures.bars import cycle_split, cycles_by_op, sqnr_by_layer
from nnaq.figures.maps import arena_map, timeline
from nnaq.figures.roofline import roofline

__all__ = ["arena_map", "cycle_split", "cycles_by_op", "roofline", "sqnr_by_layer", "timeline"]
