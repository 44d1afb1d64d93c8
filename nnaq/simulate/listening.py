"""A lowered model that listens to a recording as it is spoken: latency, bytes and energy per frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnaq.cost.shapes import symbols_of
from nnaq.ir.graph import Graph
from nnaq.simulate.machine import Simulation, simulate
from nnaq.simulate.stream import Streamed, frame_arrivals, simulate_stream
from nnaq.targets import Target

PARTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Sound:
    """How a recording becomes frames: its samples, new samples per frame, and samples per second."""

    samples: int
    hop: int
    sample_rate: int

    @property
    def frames(self) -> int:
        return -(-self.samples // self.hop)

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Listening:
    """A recording on a target.

    steps: the simulation of every chunk; the last may be shorter. A step takes what the simulation of
    events says, and steps follow each other, because each waits for the states of the one before.
    """

    sound: Sound
    chunk: int
    steps: tuple[Simulation, ...]
    streamed: Streamed

    @property
    def target(self) -> Target:
        return self.steps[0].target

    @property
    def starts(self) -> list[int]:
        """The cycle in which every step starts."""
        return [chunk.start for chunk in self.streamed.chunks]

    @property
    def real_time_factor(self) -> float:
        """Time of all steps over the time the sound lasts; above 1 the machine falls behind."""
        return self.target.microseconds(self.streamed.encoder_busy) / 1e6 / self.sound.seconds

    @property
    def energy_picojoules(self) -> float | None:
        """Of the whole recording."""
        if self.target.energy is None:
            return None
        return sum(step.energy_picojoules or 0.0 for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The stream as plain data; times in microseconds, counted from the last sample of a chunk."""
        time, streamed, frames = self.target.microseconds, self.streamed, self.sound.frames
        energy = self.energy_picojoules
        return {
            "target": self.target.name,
            "seconds": self.sound.seconds,
            "frames": frames,
            "chunk": self.chunk,
            "real_time_factor": self.real_time_factor,
            "latency_microseconds": {name: time(streamed.latency(part)) for name, part in PARTS.items()},
            "perceived_latency_microseconds": time(streamed.perceived),
            "longest_wait_microseconds": time(streamed.longest_wait),
            "backlog_chunks": streamed.backlog,
            "setup_microseconds": time(self.steps[0].setup_cycles),
            "busy_share": streamed.accelerator_share,
            "engine_shares": self.engine_shares(),
            "sram_bytes_per_frame": sum(s.sram_bytes for s in self.steps) / frames,
            "dram_bytes_per_frame": sum(s.dram_bytes for s in self.steps) / frames,
            "energy_nanojoules_per_frame": None if energy is None else energy / 1e3 / frames,
            "energy_microjoules": None if energy is None else energy / 1e6,
        }

    def engine_shares(self) -> dict[str, float]:
        """The part of the time until the final result in which each engine works."""
        busy: dict[str, int] = {}
        for step in self.steps:
            for engine, cycles in step.timing.busy.items():
                busy[engine] = busy.get(engine, 0) + cycles
        return {engine: cycles / max(self.streamed.cycles, 1) for engine, cycles in busy.items()}

    def show(self) -> str:
        """The stream as a table of text."""
        return "\n".join(f"{name:<26} {value}" for name, value in _rows(self.to_json()).items())


def listen(graph: Graph, target: Target, sound: Sound, chunk: int = 1) -> Listening:
    """A graph that gets `chunk` frames of a recording at a time, as they are spoken."""
    frames = sound.frames
    sizes = [min(chunk, frames - first) for first in range(0, frames, chunk)]
    made = {size: simulate(graph, target, dict.fromkeys(symbols_of(graph), size)) for size in set(sizes)}
    steps = tuple(made[size] for size in sizes)
    arrivals = frame_arrivals(sound.samples, sound.hop, sound.sample_rate, target.clock_hz, chunk)
    cycles = [step.timing.cycles for step in steps]
    streamed = simulate_stream(cycles, 0, arrivals, ready=steps[0].setup_cycles)
    return Listening(sound, chunk, steps, streamed)


def _rows(plain: Mapping[str, Any]) -> dict[str, str]:
    latency = ", ".join(f"{name} {us:g} us" for name, us in plain["latency_microseconds"].items())
    shares = ", ".join(f"{engine} {share:.2%}" for engine, share in plain["engine_shares"].items())
    behind = plain["real_time_factor"] > 1
    rows = {
        "sound": f"{plain['seconds']:g} s, {plain['frames']:,} frames, {plain['chunk']} at a time",
        "real-time factor": f"{plain['real_time_factor']:.4g}" + (": it falls behind" if behind else ""),
        "latency per chunk": latency,
        "perceived latency": f"{plain['perceived_latency_microseconds']:g} us from last sound to result",
        "longest wait": f"{plain['longest_wait_microseconds']:g} us, {plain['backlog_chunks']} in line",
        "before the first step": f"{plain['setup_microseconds']:g} us",
        "at work": f"{plain['busy_share']:.2%} of the time; {shares}",
        "bytes per frame": f"{plain['sram_bytes_per_frame']:,.0f} through SRAM, "
        f"{plain['dram_bytes_per_frame']:,.0f} from DRAM",
    }
    if plain["energy_microjoules"] is not None:
        rows["energy"] = (
            f"{plain['energy_nanojoules_per_frame']:g} nJ per frame, "
            f"{plain['energy_microjoules']:g} uJ in all, host not counted"
        )
    return rows
