"""A transducer on a machine in real time: encoder, predictor and joint take turns on one accelerator.

    frame   features (host) -> encoder -> steps of the search, until one says blank
    step    joint -> the largest logit (host)
    label   what a step says -> predictor

A frame with n labels so takes features + encoder + n predictors + n + 1 steps, or a step less where the
search allows no more labels. All of it is one after the other: the predictor reads the label that the step
before it found, and the encoder goes on from the states of the frame before.

SRAM is shared. What outlives a frame rests there: the states of all parts, and f and g, where they meet. Each
part pins constants in what is left by those that run more often: the joint first, then the encoder, then the
predictor. The room for the values of a step is used by one part after the other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod

from nnaq.cost.footprint import resting_bytes
from nnaq.cost.shapes import bind_shapes, symbols_of
from nnaq.ir.graph import Graph
from nnaq.simulate.machine import Simulation, simulate
from nnaq.simulate.stream import Streamed, frame_arrivals, simulate_stream
from nnaq.targets import Target
from nnaq.targets.gemm import sizes as whole


@dataclass(frozen=True)
class Spoken:
    """An utterance as a search went through it.

    samples      of the recording; speech_samples: until the end of its last speech
    labels       said at each frame of the encoder
    steps        of the joint at each frame
    """

    samples: int
    speech_samples: int
    labels: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Framing:
    """Samples to a frame of the encoder, samples a second, and frames that the encoder takes at a time."""

    hop: int
    sample_rate: int
    chunk: int = 1


@dataclass(frozen=True)
class Turns:
    """The parts on a target.

    encoders         by frames at a time
    features, choice cycles of the host for the features of a frame, and for the largest logit of a step
    meeting_bytes    those of f and g
    """

    target: Target
    encoders: Mapping[int, Simulation]
    predictor: Simulation
    joint: Simulation
    features: int
    choice: int
    meeting_bytes: int

    @property
    def parts(self) -> tuple[Simulation, ...]:
        """Encoder, for the most frames at a time, predictor and joint."""
        return self.encoders[max(self.encoders)], self.predictor, self.joint

    @property
    def setup_cycles(self) -> int:
        """Before the first sound: pinned constants are brought, and the predictor reads the beginning."""
        return sum(part.setup_cycles for part in self.parts) + self.predictor.timing.cycles

    @property
    def fits(self) -> bool:
        """Whether every part has room beside what rests."""
        return self.resting["peak_bytes"] <= self.target.sram_bytes

    @property
    def resting(self) -> dict[str, int]:
        """Bytes of SRAM in use between two frames, the most while a part works, and those there are."""
        plans = [part.plan for part in self.parts]
        pinned, states = sum(p.pinned_bytes for p in plans), sum(p.state_bytes for p in plans)
        stays = pinned + states + self.meeting_bytes
        return {
            "pinned_bytes": pinned,
            "state_bytes": states,
            "meeting_bytes": self.meeting_bytes,
            "peak_bytes": stays + max(p.arena_bytes - p.state_bytes for p in plans),
            "bytes": self.target.sram_bytes,
        }

    def work(self, spoken: Spoken, chunk: int) -> dict[str, int]:
        """Cycles of an utterance by who works, the parts with all their engines."""
        encoder = sum(self.encoders[size].timing.cycles for size in sizes(len(spoken.labels), chunk))
        return {
            "features": self.features * len(spoken.labels),
            "encoder": encoder,
            "predictor": self.predictor.timing.cycles * sum(spoken.labels),
            "joint": self.joint.timing.cycles * sum(spoken.steps),
            "search": self.choice * sum(spoken.steps),
        }

    def hear(self, spoken: Spoken, framing: Framing) -> Streamed:
        """The utterance in real time, `framing.chunk` frames at a time."""
        step, chunk = self.joint.timing.cycles + self.choice, framing.chunk
        count = len(spoken.labels)
        labels, steps = (
            [sum(each[n : n + chunk]) for n in range(0, count, chunk)]
            for each in (spoken.labels, spoken.steps)
        )
        cycles = [
            self.features * size + self.encoders[size].timing.cycles + step * (taken - said)
            for size, said, taken in zip(sizes(count, chunk), labels, steps, strict=True)
        ]
        arrivals = frame_arrivals(
            spoken.samples, framing.hop, framing.sample_rate, self.target.clock_hz, chunk
        )
        each = self.predictor.timing.cycles + step
        return simulate_stream(cycles, each, arrivals, labels, "accelerator", self.setup_cycles)


def sizes(frames: int, chunk: int) -> list[int]:
    """Frames of every chunk; the last may be shorter.

    >>> sizes(5, 2)
    [2, 2, 1]
    """
    return [min(chunk, frames - first) for first in range(0, frames, chunk)]


def take_turns(
    encoder: Graph, predictor: Graph, joint: Graph, target: Target, frames: Collection[int], operations: int
) -> Turns:
    """The parts of a streaming transducer on one target.

    frames: all numbers of the encoder's frames that come at a time. operations: of the host, for the features
    of one frame. Raises GraphError where a part is left without a frame.
    """
    most = dict.fromkeys(symbols_of(encoder), max(frames))
    bound = [bind_shapes(encoder, most), bind_shapes(predictor), bind_shapes(joint)]
    kept = [sum(resting_bytes(g.types[s.input], target) for s in g.states) for g in bound]
    meeting = sum(resting_bytes(g.types[g.outputs[0].name], target) for g in bound[:2])
    room = _Room(target, target.sram_bytes - sum(kept) - meeting)
    ranked = room.take(joint, kept[2])
    encoders = {max(frames): room.take(encoder, kept[0], most)}
    machine = encoders[max(frames)].target
    for fewer in set(frames) - {max(frames)}:
        encoders[fewer] = simulate(encoder, machine, dict.fromkeys(symbols_of(encoder), fewer))
    read = room.take(predictor, kept[1])
    logits = bound[2].types[joint.outputs[0].name]
    choice = target.host.cycles(prod(whole(logits)), resting_bytes(logits, target))
    return Turns(target, encoders, read, ranked, target.host.cycles(operations, 0), choice, meeting)


class _Room:
    """The SRAM that parts share: what nothing rests in, and the most that the values of one part take."""

    def __init__(self, target: Target, free: int) -> None:
        self.target, self.free, self.used = target, free, 0

    def take(self, graph: Graph, states: int, binding: Mapping[str, int] | None = None) -> Simulation:
        """A part on what is left: with its constants there is still room for the values of those before."""
        left = self.free
        while True:
            sram = replace(self.target.sram, bytes=max(left + states, 1))
            found = simulate(graph, replace(self.target, sram=sram), binding)
            pinned = found.plan.pinned_bytes
            over = pinned + self.used - self.free
            if over <= 0 or not pinned:
                break
            left -= over
        self.free -= pinned
        self.used = max(self.used, found.plan.arena_bytes - states)
        return found
