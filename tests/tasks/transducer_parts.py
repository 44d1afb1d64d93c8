"""Small transducers of whole numbers, for the tests of searches; numbers so large that ties do not happen."""

import numpy as np

JOINT, LARGEST = 3, 400
SCALE = 3e-6  # of logits: reals within 3 or so


class DrawnParts:
    """g depends on all units read, drawn from a seed; arrays that it hands out are read-only."""

    def __init__(self, seed, units):
        self.seed = seed
        self.weights = np.random.default_rng(seed).integers(-LARGEST, LARGEST, (JOINT, units))
        self.reads = []

    def start(self):
        return self._read(())

    def read(self, state, label):
        self.reads.append((*state, label))
        return self._read((*state, label))

    def logits(self, f, g):
        return (np.abs(f + g) @ self.weights).astype(np.int32)

    def _read(self, labels):
        g = np.random.default_rng([self.seed, *labels]).integers(-LARGEST, LARGEST, JOINT)
        g.setflags(write=False)
        return g, labels


def drawn_frames(seed, count):
    """f [count, JOINT]."""
    return np.random.default_rng(seed).integers(-LARGEST, LARGEST, (count, JOINT))


def in_chunks(search, frames, cuts):
    """What a search says where the frames come in chunks that end at `cuts`."""
    said, stream = [], search.start()
    for chunk in np.split(frames, sorted(cuts)):
        more, stream = search.feed(stream, chunk)
        said += more
    return said + search.rest(stream)
