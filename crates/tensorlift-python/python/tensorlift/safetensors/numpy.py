"""Replaces `safetensors.numpy`."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from .. import _dtypes, _native
from .._errors import Error
from . import _open
from ._error import SafetensorError
from ._save import TensorSpec, serialize, serialize_file

__all__ = ["load", "load_file", "save", "save_file"]


def save(
    tensor_dict: dict[str, np.ndarray[Any, Any]], metadata: dict[str, str] | None = None
) -> bytes:
    """The bytes of a safetensors file with these arrays."""
    specs, _kept = _specs(tensor_dict)
    return serialize(specs, metadata=metadata)


def save_file(
    tensor_dict: dict[str, np.ndarray[Any, Any]],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes a safetensors file with these arrays."""
    specs, _kept = _specs(tensor_dict)
    serialize_file(specs, filename, metadata=metadata)


def load(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays in the bytes of a safetensors file."""
    return load_bytes(data, "numpy")


def load_file(
    filename: str | os.PathLike[str], *, backend: str = "mmap"
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a safetensors file."""
    with _open.safe_open(filename, framework="np", backend=backend) as file:
        return file.get_tensors()


def load_bytes(data: bytes, framework: str) -> dict[str, Any]:
    """The tensors in the bytes of a safetensors file."""
    during = "Error while deserializing"
    _open.check_header(data[:9], during)
    try:
        native = _native.Checkpoint.from_bytes(bytes(data))
    except Error as error:
        raise SafetensorError(f"{during}: {error}") from error
    stored = [row[0] for row in _open.stored(native)]
    names = None if len(stored) == len(native) else stored
    return _open.load_native(native, names, "cpu", framework, _dtypes.of_framework(framework))


def _specs(
    tensors: dict[str, np.ndarray[Any, Any]],
) -> tuple[dict[str, TensorSpec], list[np.ndarray[Any, Any]]]:
    """What to write, and the arrays that must live until it is written."""
    kept = [_little_endian(array) for array in tensors.values()]
    specs = {
        name: TensorSpec(
            dtype=array.dtype.name,
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in zip(tensors, kept, strict=True)
    }
    return specs, kept


def _little_endian(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    order = array.dtype.byteorder
    if order == ">" or (order == "=" and sys.byteorder == "big"):
        return array.byteswap(inplace=False)
    return array
