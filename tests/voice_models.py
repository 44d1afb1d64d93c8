"""A small streaming detector for tests of whole lowerings: convolution, LSTM with states, score."""

from pathlib import Path

import numpy as np
import onnx
import soundfile
from frontends.onnx_models import model, normal

FRAME, RATE = 16, 8000
RECIPE = """name = "tiny"
[input]
port = "x"
sample_rate = 8000
hop = 16
[ports]
time = { x = 0, score = 0 }
[states]
h = "hn"
c = "cn"
"""


def detector(last: str = "score = Sigmoid(logit)", weight: float = 0.4) -> onnx.ModelProto:
    """[T,16] frames in, one score per frame out, states h and c of 8 units."""
    weights = {
        "w": weight * normal(4, 1, 4, seed=1),
        "b": 0.1 * normal(4, seed=2),
        "wx": 0.4 * normal(1, 32, 16, seed=3),
        "wh": 0.4 * normal(1, 32, 8, seed=4),
        "wb": 0.1 * normal(1, 64, seed=5),
        "v": normal(8, 1, seed=6),
        "row": np.array([0, 1, -1]),
        "steps": np.array([0, 1, 16]),
        "flat": np.array([0, 8]),
    }
    return model(
        f"""(float[T,16] x, float[1,1,8] h, float[1,1,8] c)
            => (float[T,1] score, float[1,1,8] hn, float[1,1,8] cn) {{
            framed = Reshape(x, row)
            made = Conv<kernel_shape=[4], strides=[4]>(framed, w, b)
            kept = Relu(made)
            steps_in = Reshape(kept, steps)
            y, hn, cn = LSTM<hidden_size=8>(steps_in, wx, wh, wb, "", h, c)
            hidden = Reshape(y, flat)
            logit = MatMul(hidden, v)
            {last}
        }}""".replace('""', ""),
        weights,
    )


def write_sound(path: Path, seed: int, frames: int = 40, rate: int = RATE, channels: int = 1) -> Path:
    """A wav of noise in bursts."""
    size = frames * FRAME
    gate = 0.1 + 0.8 * (np.sin(np.arange(size) / 40) > 0)
    noise = 0.3 * gate[:, None] * np.random.default_rng(seed).uniform(-1, 1, (size, channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise, rate)
    return path


def scene(folder: Path, sounds: int = 3) -> Path:
    """model.onnx, recipe.toml, data/ with recordings and held/ with another one, below `folder`."""
    onnx.save(detector(), folder / "model.onnx")
    (folder / "recipe.toml").write_text(RECIPE)
    for seed in range(sounds):
        write_sound(folder / "data" / f"{seed}.wav", seed)
    write_sound(folder / "held" / "other.wav", 99)
    return folder
