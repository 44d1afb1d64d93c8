"""torchaudio's loss in a process of its own: `torchaudio_peer.py FOLDER` measures once per line on its input.

FOLDER holds inputs.npz; the gradient of the sum of the losses goes to gradient.npy there. The first answer is
JSON {loss, versions}, each further one the seconds of one forward and backward. One thread, CPU.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchaudio


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with np.load(folder / "inputs.npz") as file:
        given = {name: torch.from_numpy(array) for name, array in file.items()}
    logits = given.pop("logits").requires_grad_()
    order = [given[name].int() for name in ("targets", "logit_lengths", "target_lengths")]

    def run() -> float:
        logits.grad = None
        loss = torchaudio.functional.rnnt_loss(logits, *order, blank=0, reduction="sum")
        loss.backward()
        return loss.item()

    loss = run()
    np.save(folder / "gradient.npy", logits.grad.numpy())
    versions = {"torchaudio": torchaudio.__version__, "torch": torch.__version__}
    print(json.dumps({"loss": loss, "versions": versions}), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        run()
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
