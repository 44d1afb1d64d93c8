"""Everything about peers: environments, exchange, peers one after the other, judgement; `make peers`.

    python benchmarks/peers/run.py --detector .demo/silero_vad_16k_sequence.onnx --encoder pretrained.pt \
        --data AN4 --noise kitchen.flac [--only ort torchao nncf coremltools mct vela nnaq judge]

A peer's environment is `.peers/NAME`, with the versions of `requirements-NAME.txt`; one left half made is
finished. Where torch has wheels without CUDA depends on the index that pip is set to; any build will do. All
run on one thread. A peer that cannot be installed or run is told at the end, the others go on, and what
earlier runs left in the exchange is judged with the new rows.
"""

import argparse
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / ".peers"
SCRIPTS = {
    "ort": ["onnxruntime_peer.py"],
    "torchao": ["torchao_peer.py"],
    "nncf": ["nncf_peer.py", "nncf_codebooks.py"],
    "coremltools": ["coremltools_peer.py", "coremltools_codebooks.py"],
    "mct": ["mct_peer.py", "mct_codebooks.py"],
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


NEEDED = {
    "detector": "the voice detector of `make demo`, .demo/silero_vad_16k_sequence.onnx",
    "encoder": "pretrained.pt of `pip download --no-deps resemblyzer==0.1.4`, a wheel (unzip it); "
    "make peers ENCODER=…",
    "data": "a folder with AN4's recordings as train/SPEAKER/… and test/SPEAKER/…, WAV or FLAC of 16 kHz; "
    "make peers DATA=…",
    "noise": "a recording of noise of a minute or more; make peers NOISE=…",
}


def arguments() -> argparse.Namespace:
    """The command line. What is not there is told before anything is made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, told in NEEDED.items():
        parser.add_argument(f"--{name}", nargs="?", type=Path, help=told)
    steps = ["export", "nnaq", *SCRIPTS, "vela", "judge"]
    parser.add_argument("--only", nargs="+", choices=steps, default=steps)
    given = parser.parse_args()
    needed = NEEDED if "export" in given.only else ["detector"] if "nnaq" in given.only else []
    for name in needed:
        path = vars(given)[name]
        if path is None or not path.exists():
            what = f"--{name} is missing" if path is None else f"--{name}: there is no {path}"
            parser.error(f"{what}; it is {NEEDED[name]}")
    return given


def run(python: Path | str, script: str, *given: object) -> None:
    """One script of this folder."""
    command = [str(python), str(HERE / script), *map(str, given)]
    print("+", *command, flush=True)
    subprocess.run(command, check=True, env={**os.environ, **ONE_THREAD})


def environment(name: str) -> Path:
    """The interpreter of a peer's environment, which is made, or finished, if it is not there."""
    folder = ENVIRONMENTS / name
    python, finished = folder / "bin" / "python", folder / ".installed"
    wanted = (HERE / f"requirements-{name}.txt").read_text()
    if finished.exists() and finished.read_text() == wanted:
        return python
    if not python.exists():
        venv.create(folder, with_pip=True)
    # MCT's torchvision asks for the torch of its own day; its operators are never called.
    lone = [line for line in wanted.split() if name == "mct" and line.startswith("torchvision==")]
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *(line for line in wanted.split() if line not in lone)], check=True)
    if lone:
        subprocess.run([*install, "--no-deps", *lone], check=True)
    finished.write_text(wanted)
    return python


def step(name: str, given: argparse.Namespace) -> None:
    """One step; raises CalledProcessError where it fails."""
    if name == "export":
        data = ("--calibrate", given.data / "train", "--evaluate", given.data / "test")
        models = ("--detector", given.detector, "--encoder", given.encoder, "--noise", given.noise)
        run(sys.executable, "export_data.py", *models, *data)
    elif name == "nnaq":
        run(sys.executable, "nnaq_rows.py", given.detector)
        run(sys.executable, "nnaq_codebooks.py")
    elif name == "judge":
        run(sys.executable, "judge.py")
        run(sys.executable, "../render.py")
    else:
        for script in SCRIPTS.get(name, ["vela_storage.py"]):
            run(environment(name), script)


def main() -> None:
    """All steps asked for, in order; a peer that fails stops none of the others."""
    given = arguments()
    failed = []
    for name in given.only:
        start = time.perf_counter()
        try:
            step(name, given)
        except subprocess.CalledProcessError as error:
            if name in ("export", "nnaq", "judge"):
                sys.exit(f"step {name} failed: {error}")
            failed.append(f"{name}: {error}")
        print(f"= {name}: {time.perf_counter() - start:.0f} s", flush=True)
    if failed:
        sys.exit("\n".join(["peers without new rows:", *failed]))


if __name__ == "__main__":
    main()
