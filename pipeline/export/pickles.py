"""Pickles written opcode by opcode, so that arrays stream from disk to disk and no package needs to be imported.

`pickle.dump` and `torch.save` hold all values in memory. Only plain containers, numbers, text and named constructors
can be written.
"""

import pickle
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO

import numpy as np


class PickleStream:
    """One pickle, written to a file as it is made."""

    def __init__(self, file: BinaryIO, protocol: int) -> None:
        self._write = file.write
        self._slots: dict[str, int] = {}
        self._write(pickle.PROTO + bytes([protocol]))

    def end(self) -> None:
        """Finish the pickle."""
        self._write(pickle.STOP)

    def text(self, text: str) -> None:
        """Write a text."""
        data = text.encode("utf-8", "surrogatepass")
        self._write(pickle.BINUNICODE + struct.pack("<I", len(data)) + data)

    def number(self, value: int) -> None:
        """Write an integer of up to 2,040 bits."""
        data = pickle.encode_long(value)
        self._write(pickle.LONG1 + bytes([len(data)]) + data)

    def name(self, module: str, name: str) -> None:
        """Write a class or function by its name."""
        self._write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def numbers(self, values: Iterable[int]) -> None:
        """Write a tuple of integers."""
        self.begin_tuple()
        for value in values:
            self.number(value)
        self.end_tuple()

    def texts(self, texts: Iterable[str]) -> None:
        """Write a list of texts."""
        self._write(pickle.EMPTY_LIST)
        for text in texts:
            self.text(text)
            self._write(pickle.APPEND)

    def array(self, shape: Sequence[int], dtype: str, blocks: Iterable[np.ndarray]) -> None:
        """Write a NumPy array from blocks along its first axis, in protocol 5."""
        self.name("numpy", "ndarray")
        self.begin_tuple()
        self.numbers(shape)
        self.text(dtype)
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._write(pickle.BYTEARRAY8 + struct.pack("<Q", n_bytes))
        for block in blocks:
            self._write(np.ascontiguousarray(block, dtype).tobytes())
        self.end_tuple()
        self.call()

    def begin_dict(self) -> None:
        """Begin a dict. Each item is a key, a value, and `item`."""
        self._write(pickle.EMPTY_DICT)

    def item(self) -> None:
        """Put the last two values into the dict before them."""
        self._write(pickle.SETITEM)

    def begin_tuple(self) -> None:
        """Begin a tuple of the values up to `end_tuple`."""
        self._write(pickle.MARK)

    def end_tuple(self) -> None:
        """End the tuple."""
        self._write(pickle.TUPLE)

    def false(self) -> None:
        """Write False."""
        self._write(pickle.NEWFALSE)

    def call(self) -> None:
        """Replace a name and the tuple after it by the object that they make."""
        self._write(pickle.REDUCE)

    def persistent(self) -> None:
        """Replace the last value by the object that it identifies outside of the pickle."""
        self._write(pickle.BINPERSID)

    def once(self, name: str, make: Callable[[], None]) -> None:
        """Write a value that is used again: `make` writes it the first time, later ones refer to it by its name."""
        if name in self._slots:
            self._write(pickle.BINGET + bytes([self._slots[name]]))
            return
        make()
        self._slots[name] = len(self._slots)
        self._write(pickle.BINPUT + bytes([self._slots[name]]))


def dict_of_texts(stream: PickleStream, texts: Mapping[str, Iterable[str]]) -> None:
    """Write items of a dict that was begun: lists of texts by name."""
    for name, values in texts.items():
        stream.text(name)
        stream.texts(values)
        stream.item()
