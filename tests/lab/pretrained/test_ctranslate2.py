"""The reader of CTranslate2 files returns what was written, and skips other types."""

import struct

import numpy as np
import torch

from fastav_plugin.lab.pretrained.ctranslate2 import read_variables


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name: str, values: np.ndarray, kind: int) -> bytes:
    sizes = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
    data = values.tobytes()
    return text(name) + sizes + struct.pack("<BI", kind, len(data)) + data


def test_float16_variables_are_read() -> None:
    first = np.arange(6, dtype=np.float16).reshape(2, 3) / 4
    last = np.array([1.5], np.float16)
    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 3)
    data += variable("a/weight", first, 4)
    data += variable("flags", np.array([1, 2, 3], np.int8), 1)
    data += variable("b", last, 4)
    found = read_variables(data)
    assert list(found) == ["a/weight", "b"]
    assert torch.equal(found["a/weight"], torch.tensor([[0.0, 0.25, 0.5], [0.75, 1.0, 1.25]]))
    assert found["b"].dtype == torch.float32
    assert found["b"].tolist() == [1.5]
