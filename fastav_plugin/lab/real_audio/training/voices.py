"""Speech of two synthesisers: espeak-ng and flite, both programs of Debian."""

import random
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastav_plugin.errors import FastAVError
from fastav_plugin.lab.real_audio.frames import SAMPLE_RATE

_ESPEAK_RATE = 22_050
_ACCENTS = "en-us en-gb en-gb-scotland en-us-nyc en-gb-x-gbcwmd en-gb-x-rp".split()
_VARIANTS = """
    m1 m2 m3 m4 m5 m6 f1 f2 f3 f5 Andy Annie Alicia Denis Diogo Gene Hugo linda steph david ed
    edward john max michael mike paul rob pablo belinda
    """.split()
_TEST_VARIANTS = "m7 m8 f4 Andrea victor".split()
_FLITE = ("slt", "rms", "kal16")
_TEST_FLITE = ("awb",)
#: Share of clips that flite speaks.
_FLITE_SHARE = 0.2


@dataclass(frozen=True)
class Voice:
    """A voice of one synthesiser.

    Args:
        program: "espeak-ng" or "flite".
        name: of the voice.
        pace: words a minute for espeak-ng; factor of the duration for flite.
        pitch: 0 to 99, of espeak-ng alone.
    """

    program: str
    name: str
    pace: float
    pitch: int = 50

    def say(self, text: str) -> np.ndarray:
        """The sentence as float32 samples at 16 kHz, without silence around it, peak 1.

        Raises:
            FastAVError: if the program is missing or fails.
        """
        if shutil.which(self.program) is None:
            raise FastAVError(f"{self.program} is missing: apt install espeak-ng flite")
        samples = self._espeak(text) if self.program == "espeak-ng" else self._flite(text)
        loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
        samples = samples[loud[0] : loud[-1] + 1]
        level: np.ndarray = samples / np.abs(samples).max()
        return level

    def _espeak(self, text: str) -> np.ndarray:
        import soxr  # type: ignore[import-untyped]

        command = ["espeak-ng", "-v", self.name, "-s", str(round(self.pace))]
        command += ["-p", str(self.pitch), "--stdout", text]
        done = subprocess.run(command, capture_output=True, check=True)
        # The header's lengths are wrong on a pipe: 44 bytes, then the samples.
        samples = np.frombuffer(done.stdout[44:], np.int16).astype(np.float32)
        found: np.ndarray = soxr.resample(samples / 32768, _ESPEAK_RATE, SAMPLE_RATE)
        return found

    def _flite(self, text: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            command = ["flite", "-voice", self.name, "-t", text, "-o", str(path)]
            command += ["--setf", f"duration_stretch={self.pace:.2f}"]
            subprocess.run(command, capture_output=True, check=True)
            data = path.read_bytes()
        return np.frombuffer(data[44:], np.int16).astype(np.float32) / 32768


def draw_voice(source: random.Random, test: bool) -> Voice:
    """A voice of the training clips, or of the test clips, which share none."""
    if source.random() < _FLITE_SHARE:
        name = source.choice(_TEST_FLITE if test else _FLITE)
        return Voice("flite", name, source.uniform(0.9, 1.25))
    variant = source.choice(_TEST_VARIANTS if test else _VARIANTS)
    name = f"{source.choice(_ACCENTS)}+{variant}"
    return Voice("espeak-ng", name, source.uniform(140, 190), source.randint(30, 70))
