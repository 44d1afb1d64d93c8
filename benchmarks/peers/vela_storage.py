"""Bytes that Vela's weight codec (mlw_codec) makes of nnaq's int8 codes; writes results/storage.json.

    .peers/vela/bin/python benchmarks/peers/vela_storage.py

`vela_bytes_int8`: the stream of the plain int8 codes of a layer; `vela_bytes_palette_codes`: the stream of
the same layer's codes on a palette of `bits` bits (one table per tensor). The codec finds a palette of at
most 32 values and Golomb-Rice parameters by itself. Values stream row by row; the blocks, and the padding,
of a particular NPU are left out, which is kinder to the codec than a device.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from codebook_exchange import BITS, FOLDER
from ethosu import mlw_codec

RESULT = Path(__file__).resolve().parents[1] / "results" / "storage.json"


def encoded(codes: np.ndarray) -> int:
    """Bytes of the stream; what it decodes to is checked."""
    values = codes.ravel().astype(int).tolist()
    stream = mlw_codec.encode(values)
    decoded = mlw_codec.decode(stream)
    assert list(decoded)[: len(values)] == values
    return len(stream)


def main() -> None:
    """A row per layer and width."""
    with np.load(FOLDER / "codes.npz") as file:
        codes = dict(file)
    rows = []
    for layer in [name.removesuffix(":8") for name in codes if name.endswith(":8")]:
        plain = codes[f"{layer}:8"]
        whole = encoded(plain)
        for bits in BITS:
            found = encoded(codes[f"{layer}:{bits}"])
            row = {"layer": layer, "values": plain.size, "bits": bits, "int8_bytes": plain.size}
            row |= {"vela_bytes_int8": whole, "vela_bytes_palette_codes": found}
            rows.append(row | {"index_bytes": -(-plain.size * bits // 8)})
            print(rows[-1], flush=True)
    result = {"versions": {"ethos-u-vela": version("ethos-u-vela")}, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
