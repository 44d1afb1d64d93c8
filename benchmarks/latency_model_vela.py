"""What Vela reports of a folder of .tflite files: run by latency_model.py in an environment that has Vela.

    PYTHON benchmarks/latency_model_vela.py FOLDER < configurations.json > goldens.json

Every file is compiled for every configuration with the greedy allocator, for performance (Vela's default)
and for size. `mlw_codec` counts the weights of FILE.npz in the weight codec, value by value as they stand,
without the blocks and the padding of a particular NPU.
"""

import csv
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ethosu import mlw_codec

OPTIONS = ("--config", "Arm/vela.ini", "--tensor-allocator", "Greedy")
KIBIBYTE = 1024


def report(path: Path, configuration: dict[str, str], optimise: str) -> dict[str, int]:
    """The figures of one compilation that Vela writes to its summary. Raises where the NPU runs nothing."""
    out = path.parent / configuration["accelerator"] / optimise
    command = [sys.executable, "-m", "ethosu.vela", str(path), "--output-dir", str(out), *OPTIONS]
    command += ["--optimise", optimise, "--accelerator-config", configuration["accelerator"]]
    command += ["--system-config", configuration["system_config"]]
    command += ["--memory-mode", configuration["memory_mode"]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = next(out.glob(f"{path.stem}_summary_*.csv"))
    row = next(csv.DictReader(summary.open(encoding="utf-8")))
    if float(row["cycles_npu"]) == 0:
        raise SystemExit(f"{path.name}: Vela leaves the network to the CPU")
    return {
        "npu_cycles": int(float(row["cycles_npu"])),
        "total_cycles": int(float(row["cycles_total"])),
        "sram_bytes": int(float(row["sram_memory_used"]) * KIBIBYTE),
        "encoded_weight_bytes": int(float(row["total_npu_encoded_weights"])),
    }


def codec_bytes(path: Path) -> int:
    """Bytes of all weights of a file in mlw_codec; what they decode to is checked."""
    total = 0
    with np.load(path) as weights:
        for name in weights.files:
            values = weights[name].ravel().astype(int).tolist()
            stream = mlw_codec.encode(values)
            assert list(mlw_codec.decode(stream))[: len(values)] == values
            total += len(stream)
    return total


def main(folder: Path) -> None:
    rows, codec = [], {}
    configurations = json.load(sys.stdin)
    for path in sorted(folder.glob("*.tflite")):
        codec[path.stem] = codec_bytes(path.with_suffix(".npz"))
        for target, configuration in configurations.items():
            for optimise in ("Performance", "Size"):
                row = {"network": path.stem, "target": target, "optimise": optimise}
                rows.append(row | report(path, configuration, optimise))
    json.dump({"version": version("ethos-u-vela"), "codec_bytes": codec, "rows": rows}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
