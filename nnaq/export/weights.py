"""The integer constants of a lowered model as a safetensors file.

Every constant of the graph stands under its own name: codes of weights (a palette's expanded, a byte each),
biases, multipliers, shifts and tables, in the storage of their types; i4 codes rest one to a byte, i48 in
64 bits. The metadata gives the type of each, `i8[64,12]<[0.0016, …]@0, 0> palette4(…)`: scales, zero_point,
axis of the channels, and the palette with its tables. With these an index is the place of a code in its
table, so that nothing is lost of the constants; the graph around them is.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nnaq.errors import ArtifactError, GraphError
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType, parse_type, storage

Weights = Mapping[str, tuple[np.ndarray, TensorType]]


def weights_file(graph: Graph) -> bytes:
    """The constants of an integer graph as the bytes of a safetensors file."""
    arrays = {name: np.array(graph.constants[name], order="C") for name in sorted(graph.constants)}
    return save(arrays, metadata={name: str(graph.types[name]) for name in arrays})


def read_weights(path: Path) -> Weights:
    """Constants and their types, by name. Raises ArtifactError for a file of another make."""
    try:
        with safe_open(path, framework="numpy") as file:
            kinds = file.metadata() or {}
            names = file.keys()
            found = {name: (file.get_tensor(name), parse_type(kinds[name])) for name in names}
    except (OSError, SafetensorError, GraphError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read as weights of a lowered model: {error}") from None
    for name, (array, kind) in found.items():
        if array.shape != kind.shape or array.dtype != storage(kind.dtype):
            raise ArtifactError(f"{path}: {name!r} is {array.dtype}{list(array.shape)}, its type says {kind}")
    return found
