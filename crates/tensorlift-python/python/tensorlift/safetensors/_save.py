"""Writes safetensors files, byte for byte as the original does."""

from __future__ import annotations

import ctypes
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _native
from .._errors import Error
from ._error import SafetensorError

# What callers name dtypes, and what the file names them.
_CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "F4",
    "complex64": "C64",
}
# Bits of an element; tensors are ordered in the file from the last dtype here to the first.
_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_RANK = {code: rank for rank, code in enumerate(_BITS)}


class TensorSpec:
    """A tensor to write: its dtype by numpy's or torch's name, its shape, where its bytes are.

    The memory must stay as it is until it is written.
    """

    __slots__ = ("data_len", "data_ptr", "dtype", "shape")

    def __init__(self, *, dtype: str, shape: Sequence[int], data_ptr: int, data_len: int) -> None:
        if dtype not in _CODES:
            raise SafetensorError(
                f"Unknown dtype {json.dumps(dtype)}. Supported dtypes: {', '.join(_CODES)}"
            )
        #: The dtype, as the file names it.
        self.dtype: str = _CODES[dtype]
        #: The shape in elements: two for each of `float4_e2m1fn_x2`.
        self.shape: list[int] = [int(size) for size in shape]
        if self.dtype == "F4" and self.shape:
            self.shape[-1] *= 2
        #: The address of the first byte.
        self.data_ptr: int = data_ptr
        #: How many bytes.
        self.data_len: int = data_len

    def __repr__(self) -> str:
        return (
            f"TensorSpec(dtype='{self.dtype}', shape={self.shape}, "
            f"data_ptr={self.data_ptr}, data_len={self.data_len})"
        )


def serialize(
    tensor_dict: Mapping[str, TensorSpec], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a file with these tensors."""
    header, tensors = _prepare(tensor_dict, metadata)
    return b"".join([header, *(_bytes_of(tensor) for tensor in tensors)])


def serialize_file(
    tensor_dict: Mapping[str, TensorSpec],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a file with these tensors; one that is there is replaced as a whole."""
    header, tensors = _prepare(tensor_dict, metadata)
    path = os.fspath(filename)
    try:
        # Beside it, so that nobody sees half of a file and mappings of the old one stay whole.
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", delete=False) as file:
            try:
                file.write(header)
                for tensor in tensors:
                    file.write(_bytes_of(tensor))
                _be_as_readable_as_new_files(file.fileno())
            except BaseException:
                os.unlink(file.name)
                raise
        os.replace(file.name, path)
    except OSError as error:
        raise SafetensorError(f"Error while serializing: {error}") from error


def deserialize(bytes: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Each tensor of a file's bytes with its shape, dtype and a copy of its bytes."""
    from ._open import check_header, stored

    check_header(bytes[:9], "Error while deserializing")
    try:
        checkpoint = _native.Checkpoint.from_bytes(bytes)
    except Error as error:
        raise SafetensorError(f"Error while deserializing: {error}") from error
    found = []
    for name, dtype, shape, _, _, _, start, end, *_ in sorted(
        stored(checkpoint), key=lambda row: row[6]
    ):
        data = bytearray(bytes[start:end])
        found.append((name, {"shape": list(shape), "dtype": dtype, "data": data}))
    return found


def _prepare(
    tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str] | None
) -> tuple[bytes, list[TensorSpec]]:
    """The header with its length, and the tensors in the order of their bytes."""
    for tensor in tensors.values():
        if not isinstance(tensor, TensorSpec):
            raise TypeError(f"expected a TensorSpec, found {type(tensor).__name__}")
    order = sorted(tensors, key=lambda name: (-_RANK[tensors[name].dtype], name))
    header: dict[str, Any] = {}
    if metadata is not None:
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(f"metadata must be text, found {key!r}: {value!r}")
        header["__metadata__"] = dict(metadata)
    end = 0
    for name in order:
        tensor = tensors[name]
        bits = math.prod(tensor.shape) * _BITS[tensor.dtype]
        if bits != 8 * tensor.data_len:
            raise SafetensorError(
                f"Error while serializing: tensor {name!r} of dtype {tensor.dtype} and shape "
                f"{tensor.shape} takes {bits / 8:g} bytes, found {tensor.data_len}"
            )
        start, end = end, end + tensor.data_len
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, [tensors[name] for name in order]


def _bytes_of(tensor: TensorSpec) -> memoryview:
    if tensor.data_len == 0:
        return memoryview(b"")
    array = (ctypes.c_ubyte * tensor.data_len).from_address(tensor.data_ptr)
    return memoryview(array).cast("B")


def _be_as_readable_as_new_files(descriptor: int) -> None:
    # Files that are made as temporary ones are for their owner alone.
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(descriptor, 0o666 & ~mask)
