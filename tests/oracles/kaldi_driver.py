"""Features of sound as kaldi-native-fbank makes them: its defaults, dither 0.

    .oracles/kaldi/bin/python tests/oracles/kaldi_driver.py fbank 7 OUT.npz
    .oracles/kaldi/bin/python tests/oracles/kaldi_driver.py --list

A case holds `rate` (hertz), `bands`, `samples` (i16, fed as samples / 2^15) and `features` f32
[frames, bands]. Sound is drawn by whole numbers only, so that a seed repeats it everywhere. No replica stands
beside the runtime here: nnaq.tasks.log_mel is what is tested.
"""

import importlib.metadata

import kaldi_native_fbank
import numpy as np
import vectors
from spectrogram import wave

SAMPLES = 2000, 5000  # of a case
ENDS = -(2**15), 2**15 - 1


def fbank(samples, rate, bands):
    """float32 [frames, bands] of samples in [-1, 1)."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.samp_freq = 0, rate
    options.mel_opts.num_bins = bands
    made = kaldi_native_fbank.OnlineFbank(options)
    made.accept_waveform(rate, samples.tolist())
    made.input_finished()
    frames = [made.get_frame(number) for number in range(made.num_frames_ready)]
    return np.array(frames, np.float32).reshape(-1, bands)


def voiced(random, count):
    """A zigzag of falling and rising pitch, which is loud at its harmonics, over a breath of noise."""
    pitch, loudness = 40 + wave(random, count, 120, 3000), wave(random, count, 20000, 2000)
    phase = np.cumsum(2**16 // pitch) % 2**16
    return (np.abs(phase - 2**15) - 2**14) * loudness // 2**14 + random.integers(-20, 21, count)


def sounds(random, count):
    """Kinds of sound, int64 [count] each: voiced, noise beside a constant, hardly any, none, all ends."""
    yield voiced(random, count)
    yield voiced(random, count) // 64
    yield random.integers(-6000, 6001, count) + 9000
    yield random.integers(-3, 4, count)
    yield np.zeros(count, np.int64)
    yield np.where(random.integers(0, 2, count) > 0, *ENDS)


def make_fbank(random, collector):
    """All kinds of sound at two rates and three numbers of bands, and the shortest."""
    sizes = [(16000, 80), (16000, 23), (8000, 40)]
    for rate, bands in sizes:
        window, hop = rate // 40, rate // 100
        for sound in sounds(random, int(random.integers(*SAMPLES)) * collector.bulk):
            add(collector, sound, rate, bands)
        for count in (window - 1, window, window + hop - 1, window + hop):
            add(collector, voiced(random, count), rate, bands)


def add(collector, sound, rate, bands):
    samples = np.clip(sound, *ENDS).astype(np.int16)
    features = fbank(samples / np.float32(2**15), rate, bands)
    collector.values_compared += features.size
    collector.add(rate=np.int32(rate), bands=np.int32(bands), samples=samples, features=features)


VERSIONS = {name: importlib.metadata.version(name) for name in ("kaldi-native-fbank", "numpy")}
OPERATORS = {"fbank": ("float32", make_fbank)}

if __name__ == "__main__":
    vectors.run_driver("kaldi", VERSIONS, OPERATORS)
