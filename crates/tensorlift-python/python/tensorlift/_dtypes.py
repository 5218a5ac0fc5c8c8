"""What numpy and torch call each dtype."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

# Names of numpy's own dtypes, where numpy has the type.
_NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "C128": "complex128",
    "QINT8": "int8",
    "QUINT8": "uint8",
    "QINT32": "int32",
}
# Names in the package ml_dtypes.
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
# Bytes of an element that numpy has no type for; packed types are counted in bytes.
_RAW_BYTES = {
    "F4": 1,
    "F6_E2M3": 1,
    "F6_E3M2": 1,
    "QUINT4X2": 1,
    "QUINT2X4": 1,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
    "F8_E8M0": 1,
    "C32": 4,
    "BC32": 4,
}
_TORCH = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C32": "complex32",
    "BC32": "bcomplex32",
    "C64": "complex64",
    "C128": "complex128",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
    # The integers of quantized tensors, and bytes of what torch has no type for.
    "QINT8": "int8",
    "QUINT8": "uint8",
    "QINT32": "int32",
    "F6_E2M3": "uint8",
    "F6_E3M2": "uint8",
    "QUINT4X2": "uint8",
    "QUINT2X4": "uint8",
}
FLOATS = frozenset(
    ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"]
)


@functools.cache
def numpy_dtypes() -> dict[str, Any]:
    """numpy's dtype for each name; one that numpy lacks is a field of that name, of raw bytes."""
    import numpy

    dtypes: dict[str, Any] = {name: numpy.dtype(own) for name, own in _NUMPY.items()}
    ml_dtypes: Any = None
    with contextlib.suppress(ImportError):
        import ml_dtypes
    for name, width in _RAW_BYTES.items():
        scalar = getattr(ml_dtypes, _ML_DTYPES.get(name, ""), None)
        raw = [(name, f"V{width}")]
        dtypes[name] = numpy.dtype(raw if scalar is None else scalar)
    return dtypes


@functools.cache
def torch_dtypes() -> dict[str, Any]:
    """torch's dtype for each name, as far as the installed torch has it."""
    import torch

    found = ((name, getattr(torch, own, None)) for name, own in _TORCH.items())
    return {name: dtype for name, dtype in found if dtype is not None}


def name_of(dtype: Any) -> str:
    """The name of a dtype of numpy's or torch's, or of a name in either's style."""
    text = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    text = text.removeprefix("torch.").removeprefix("numpy.")
    if text.upper() in _TORCH:
        return text.upper()
    aliases = {"half": "float16", "float": "float32", "double": "float64"}
    text = aliases.get(text, text)
    for name, own in _TORCH.items():
        if own == text:
            return name
    raise ValueError(f"{dtype!r} is no dtype that tensorlift knows")
