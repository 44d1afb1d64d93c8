"""Hold a device to the known answers of a lowered model. Needs NumPy alone; copy this file anywhere.

    python check_golden.py golden.npz device.npz

device.npz holds some arrays of golden.npz under the same names, as the device computed them from the
arrays `input:NAME`: `output:NAME` (time first), `state:NAME` (after the last step), `activation:NAME`.
Every value must be equal, shape and dtype included; the first difference of each array is told.
Exit code 0: all are equal, 1: some are not, 2: there is nothing to compare.
"""

import sys

import numpy as np


def difference(found: np.ndarray, expected: np.ndarray) -> str:
    """Where two arrays part first, and how often; empty where they are equal."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"{found.dtype}{list(found.shape)}, expected {expected.dtype}{list(expected.shape)}"
    places = np.argwhere(found != expected)
    if not len(places):
        return ""
    first = tuple(int(i) for i in places[0])
    return (
        f"{len(places)} of {found.size} differ, first at {first}: {found[first]}, expected {expected[first]}"
    )


def main(golden: str, device: str) -> int:
    with np.load(golden, allow_pickle=False) as known, np.load(device, allow_pickle=False) as given:
        names = [name for name in known.files if name in given.files and not name.startswith("input:")]
        lines = {name: difference(given[name], known[name]) for name in names}
    for name, line in lines.items():
        print(f"{name}: {line or 'equal'}")
    return 2 if not lines else int(any(lines.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
