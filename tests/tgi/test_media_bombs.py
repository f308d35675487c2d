"""A few bytes that would become very many: measured before they are decoded."""

from __future__ import annotations

import tracemalloc

import pytest

from fastav_plugin.model_overrides.tgi.media_decoding import decode
from fastav_plugin.model_overrides.tgi.media_policy import MediaError, MediaPolicy


def constant_flac(rate: int) -> bytes:
    """A FLAC of one block: 65535 samples of one value, in a few bytes."""

    def checksum(data: bytes, bits: int, polynomial: int) -> bytes:
        found, top = 0, 1 << (bits - 1)
        for byte in data:
            found ^= byte << (bits - 8)
            for _ in range(8):
                found = (found << 1 ^ (polynomial if found & top else 0)) & (2 * top - 1)
        return found.to_bytes(bits // 8, "big")

    samples = b"\xff\xff"
    about = (rate << 44 | 15 << 36).to_bytes(8, "big")
    begin = b"fLaC\x80\0\0\x22" + samples * 2 + bytes(6) + about + bytes(16)
    head = b"\xff\xf8\x70\x08\0" + (0xFFFF - 1).to_bytes(2, "big")
    block = head + checksum(head, 8, 0x07) + b"\0\x03\xe8"
    return begin + block + checksum(block, 16, 0x8005)


@pytest.mark.parametrize(
    ("rate", "why"), [(60, "60 samples a second"), (1000, r"longer than the 60 s")]
)
def test_sounds_that_grow(rate: int, why: str) -> None:
    """They are measured before they are resampled: 60 a second would become 266 times as many."""
    assert len(decode("audio", constant_flac(8000), MediaPolicy()).waveform) > 131_000
    data = constant_flac(rate)
    assert len(data) < 70
    tracemalloc.start()
    with pytest.raises(MediaError, match=why):
        decode("audio", data, MediaPolicy(max_seconds=60))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
