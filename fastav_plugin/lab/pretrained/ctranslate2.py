"""Read the float16 variables of a CTranslate2 model file."""

import struct
from dataclasses import dataclass

import numpy as np
import torch

#: How CTranslate2 numbers the one type of data that is read here.
_FLOAT16 = 4


@dataclass
class _Reader:
    """A position in the bytes of the file; all numbers are little-endian."""

    data: bytes
    place: int = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from("<" + form, self.data, self.place)
        self.place += struct.calcsize("<" + form)
        return int(value)

    def text(self) -> str:
        length = self.number("H")
        self.place += length
        # The last byte is a zero.
        return self.data[self.place - length : self.place - 1].decode()


def read_variables(data: bytes) -> dict[str, torch.Tensor]:
    """The float16 variables by name, each float32 of its own shape.

    Args:
        data: the whole `model.bin`: version, name and revision of the model, number of variables;
            each is name, rank, sizes, type, number of bytes, values.
    """
    reader = _Reader(data)
    reader.number("I")
    reader.text()
    reader.number("I")
    found = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        sizes = [reader.number("I") for _ in range(reader.number("B"))]
        kind, length = reader.number("B"), reader.number("I")
        if kind == _FLOAT16:
            values = np.frombuffer(data, np.float16, length // 2, reader.place)
            found[name] = torch.from_numpy(values.reshape(sizes).astype(np.float32))
        reader.place += length
    return found
