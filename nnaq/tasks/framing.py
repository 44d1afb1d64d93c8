"""Framing: audio as the overlapping frames a streaming model takes, one per step.

    frame[t] = samples[t*hop - context : (t+1)*hop],  t = 0 … ceil(samples/hop) - 1

Samples before the first are zeros. The last hop, if incomplete, is filled with zeros, so that no
sound is dropped; a device that waits for whole hops does not emit that last frame.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nnaq.errors import DataError, GraphError, RecipeError
from nnaq.ir.dims import solve
from nnaq.ir.graph import Graph
from nnaq.quantize.recipe import Recipe
from nnaq.tasks.recordings import Recording, read_arrays, read_audio


def frames(audio: np.ndarray, hop: int, context: int = 0) -> np.ndarray:
    """Frames of `audio` [samples] as float32 [T, context + hop]; see the module.

    >>> frames(np.array([1, 2, 3, 4, 5], np.float32), hop=2, context=1)
    array([[0., 1., 2.],
           [2., 3., 4.],
           [4., 5., 0.]], dtype=float32)
    """
    count = -(-len(audio) // hop)
    padded = np.zeros(context + count * hop, np.float32)
    padded[context : context + len(audio)] = audio
    if not count:
        return np.zeros((0, context + hop), np.float32)
    return np.ascontiguousarray(sliding_window_view(padded, context + hop)[::hop])


def model_inputs(recording: Recording, recipe: Recipe, graph: Graph) -> dict[str, np.ndarray]:
    """What `graph` is fed for one recording: framed audio by the recipe, or the arrays of an npz.

    Raises DataError where the recording does not fit the model, RecipeError where the framing
    does not.
    """
    if not recording.is_audio:
        return read_arrays(recording.path, graph)
    framing = recipe.input
    names = [port.name for port in graph.inputs]
    if framing is None:
        raise DataError(
            f"{recording.path}: the recipe has no [input], so model {graph.name!r} takes npz files with "
            f"arrays {', '.join(names)}, not audio; say how audio is framed in the recipe's [input]"
        )
    if names != [framing.port]:
        raise RecipeError(
            f"[input] of the recipe fills {framing.port!r}; model {graph.name!r} takes {', '.join(names)}"
        )
    made = frames(read_audio(recording.path, framing.sample_rate), framing.hop, framing.context)
    try:
        solve(
            graph.types[framing.port].shape, made.shape, f"[input] of the recipe: a framed {framing.port!r}"
        )
    except GraphError as error:
        raise RecipeError(str(error)) from None
    return {framing.port: made}


def frame_seconds(recipe: Recipe) -> float | None:
    """Seconds of sound per step, or None where the recipe does not frame audio."""
    return recipe.input.hop / recipe.input.sample_rate if recipe.input else None
