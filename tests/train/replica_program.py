"""What a replica runs in the tests, under torchrun: trains, is stopped, resumes, and writes what it holds."""

import sys
from pathlib import Path

import torch
from train.tiny_task import TinyTask

from nnaq.quantize.calibrate import Ranges
from nnaq.train.checkpoint import write_parameters
from nnaq.train.loop import train
from nnaq.train.ranges import TrainingRanges, observed_tables
from nnaq.train.replicas import replicas
from nnaq.train.settings import Settings, TrainingError

SETTINGS = Settings(epochs=2, rate=0.05, average=0.9, clip=0.5, log_every=1, checkpoint_every=1)
SEEN = (torch.tensor([-5.0, 2.0]), torch.tensor([0.5, 7.0]))


class Straying(TinyTask):
    """The parameters of the second replica stray by one bit in the fifth step."""

    rank = 0

    def loss(self, model, batch):
        if self.calls == 3 and self.rank == 1:
            model.out.bias.data[0] = torch.nextafter(model.out.bias.data[0], torch.tensor(1.0))
        return super().loss(model, batch)


def trained(here, folder, task=None, resume=False, **options):
    folder.mkdir(exist_ok=True)
    task = task or TinyTask("data", here.rank, **options)  # other seeds: replicas start as the first one does
    train(task, task.module, SETTINGS, folder, resume=resume, replicas=here)
    return task.module


def stopped(here, folder):
    """Stopped at the same step in both, in the second epoch; then resumed."""
    try:
        trained(here, folder, stop_at=6 - here.rank)
    except InterruptedError:
        here.wait()
    return trained(here, folder, resume=True)


def strayed(here, folder):
    task = Straying("data", 0)
    task.rank = here.rank
    try:
        trained(here, folder, task)
    except TrainingError as error:
        (folder / f"error{here.rank}").write_text(str(error))


def observed(here):
    """Ranges of values of which each replica sees its own part: the second one lacks the low end."""
    ranges = TrainingRanges(Ranges({"x": (-1.0, 1.0)}), {"x": "x"}, {"x": "i8"}, "moving", 0.5)
    ranges.observe({"x": SEEN[here.rank]})
    here.widen(observed_tables(ranges))
    ranges.freeze(True)
    assert observed_tables(ranges) == []
    return ranges


def main(place: Path) -> None:
    torch.set_num_threads(1)
    with replicas() as here:
        made = {
            "plain": trained(here, place / "plain", dropout=0.0, norm=False),
            "noisy": trained(here, place / "noisy"),
            "stopped": stopped(here, place / "stopped"),
            "observed": observed(here),
        }
        (place / "observed").mkdir(exist_ok=True)
        for name, module in made.items():
            write_parameters(place / name / f"replica{here.rank}", module)
        strayed(here, place / "strayed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
