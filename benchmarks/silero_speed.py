"""Speed of the simulated voice detector on one minute of audio, beside ONNX Runtime on the float model.

    python benchmarks/silero_speed.py MODEL.onnx AUDIO_FOLDER

nnaq runs the lowered integer model by its fast kernels; the peer runs the float32 model; both stream
the same frames on one thread and take turns. Writes results/silero_speed.json: the ratio is the peer's
time divided by ours, real_time the seconds of audio per second of computing. The last row is the
lowering itself: calibrate on the minute, choose widths, judge, with kernels compiled already.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import onnx
from measuring import Peer, circumstances, on_one_thread, race, seconds_of, write_results

from nnaq.crossing import Lowering, import_options, lower_graph
from nnaq.frontends import load
from nnaq.interpret import run
from nnaq.quantize.recipe import load_recipe
from nnaq.targets import load_target
from nnaq.tasks.framing import frames
from nnaq.tasks.recordings import find_recordings, read_audio

SECONDS = 60
CHUNKS = {"512 frames at a time": 512, "frame by frame": 1}


def one_minute(folder: Path, rate: int) -> np.ndarray:
    """The recordings end to end, repeated or cut to a minute."""
    audio = np.concatenate([read_audio(r.path, rate) for r in find_recordings(folder) if r.is_audio])
    return np.resize(audio, SECONDS * rate)


def main() -> None:
    """Lower once for the model, race in every chunk size, then time the lowering."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    on_one_thread()
    recipe, target = load_recipe("silero_vad"), load_target("edge8")
    assert recipe.input is not None
    audio = one_minute(given.audio, recipe.input.sample_rate)
    inputs = {recipe.input.port: frames(audio, recipe.input.hop, recipe.input.context)}
    model = onnx.load(given.model)

    def lowering() -> Lowering:
        graph = load(given.model, import_options(recipe)).graph
        return lower_graph(graph, [inputs], [inputs], recipe, target)

    graph = lowering().crossing.integer
    state = {name: np.zeros((1, 1, 128), np.float32) for name in recipe.states}
    common = {"target": None, "threads": 1, "rounds": given.rounds, **circumstances()}
    records: list[dict[str, object]] = []
    for words, chunk in CHUNKS.items():
        with Peer(model, {**inputs, **state}, chunk, recipe.states) as peer:
            figures = race(lambda size=chunk: run(graph, inputs, chunk=size), peer, given.rounds)
        real_time = SECONDS / figures["seconds"]
        record = {"work": f"one minute of speech, {words}", "peer": "ONNX Runtime, float32"}
        records.append({**record, **figures, "real_time": real_time, **common})
        print(f"{words}: {real_time:.0f} x real time, {figures['ratio']:.2f} of the peer's speed")
    warm = statistics.median(seconds_of(lowering) for _ in range(3))
    print(f"lowering: {warm:.1f} s")
    nothing = {"peer": None, "ratio": None, "peer_seconds": None, "real_time": None}
    records.append({"work": "lowering, calibrated on one minute", **nothing, "seconds": warm, **common})
    write_results("silero_speed", records)


if __name__ == "__main__":
    main()
