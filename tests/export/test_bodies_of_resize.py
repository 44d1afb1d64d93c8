"""resize along known and open axes: both runtimes give the interpreter's integers."""

from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.kernels.resize import COORDINATES, NEAREST


def agree(graphs, folder, time):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def graphs_of(x, scales, **attrs):
    """One node in i8 and in i16 codes."""
    for dtype, quant in (("i8", "<0.5, -9>"), ("i16", "<0.5, 0>")):
        yield one_node("resize", [f"{dtype}[{x}]{quant}"], [f"{dtype}[]{quant}"], {"scales": scales, **attrs})


def test_nearest(tmp_path):
    graphs = []
    for coordinates in COORDINATES:
        for nearest in NEAREST:
            words = {"mode": "nearest", "coordinates": coordinates, "nearest": nearest}
            graphs += graphs_of("1,2,T", (1.0, 1.0, 2.0), **words)
            graphs += graphs_of("1,2,T,5", (1.0, 1.0, 0.75, 1.6), **words)
    agree(graphs, tmp_path, 7)


def test_linear(tmp_path):
    graphs = []
    for coordinates in COORDINATES:
        words = {"mode": "linear", "coordinates": coordinates}
        for scales in ((1.0, 2.0), (1.5, 0.5), (3.0, 1.0), (0.4, 1.0)):
            graphs += graphs_of("T,6", scales, **words)
            graphs += graphs_of("5,6", scales, **words)
    for time, folder in ((7, "many"), (1, "one")):
        (tmp_path / folder).mkdir()
        agree(graphs, tmp_path / folder, time)
