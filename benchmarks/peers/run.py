"""Everything about peers: environments, exchange, peers one after the other, judgement; `make peers`.

    python benchmarks/peers/run.py --detector .demo/silero_vad_16k_sequence.onnx --encoder pretrained.pt \
        --data AN4 --noise kitchen.flac [--only ort torchao nncf coremltools mct vela nnaq judge]

A peer's environment is `.peers/NAME`, with the versions of `requirements-NAME.txt`. Where torch has wheels
without CUDA depends on the index that pip is set to; any build will do. All run on one thread.
"""

import argparse
import os
import subprocess
import sys
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


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("detector", "encoder", "data", "noise"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["export", "nnaq", *SCRIPTS, "vela", "judge"])
    return parser.parse_args()


def run(python: Path | str, script: str, *given: object) -> None:
    """One script of this folder."""
    command = [str(python), str(HERE / script), *map(str, given)]
    print("+", *command, flush=True)
    subprocess.run(command, check=True, env={**os.environ, **ONE_THREAD})


def environment(name: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        requirements = HERE / f"requirements-{name}.txt"
        # MCT's torchvision asks for the torch of its own day; its operators are never called.
        lone = ["torchvision"] if name == "mct" else []
        wanted = [line for line in requirements.read_text().split() if line.split("==")[0] not in lone]
        apart = [line for line in requirements.read_text().split() if line not in wanted]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        if apart:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *apart], check=True)
    return python


def main() -> None:
    """All steps asked for, in order."""
    given = arguments()
    for step in given.only:
        if step == "export":
            data = ("--calibrate", given.data / "train", "--evaluate", given.data / "test")
            models = ("--detector", given.detector, "--encoder", given.encoder, "--noise", given.noise)
            run(sys.executable, "export_data.py", *models, *data)
        elif step == "nnaq":
            run(sys.executable, "nnaq_rows.py", given.detector)
            run(sys.executable, "nnaq_codebooks.py")
        elif step == "judge":
            run(sys.executable, "judge.py")
        else:
            for script in SCRIPTS.get(step, ["vela_storage.py"]):
                run(environment(step), script)


if __name__ == "__main__":
    main()
