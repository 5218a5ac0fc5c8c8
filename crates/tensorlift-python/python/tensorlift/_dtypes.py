"""What numpy and torch call each dtype."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from ._errors import MisuseError

#: torch's name of each dtype, and the bytes of an element there: numpy and ml_dtypes have the
#: same names. Of quantized tensors, these are the integers; what torch has no type for is bytes.
_OWN = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
    "C32": ("complex32", 4),
    "BC32": ("bcomplex32", 4),
    "C64": ("complex64", 8),
    "C128": ("complex128", 16),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "F4": ("float4_e2m1fn_x2", 1),
    "QINT8": ("int8", 1),
    "QUINT8": ("uint8", 1),
    "QINT32": ("int32", 4),
    "F6_E2M3": ("uint8", 1),
    "F6_E3M2": ("uint8", 1),
    "QUINT4X2": ("uint8", 1),
    "QUINT2X4": ("uint8", 1),
}
#: Types whose elements are parts of bytes, so that tensors of them are bytes.
PACKED = frozenset(["F4", "F6_E2M3", "F6_E3M2", "QUINT4X2", "QUINT2X4"])
#: Types that are converted into each other while they are read.
FLOATS = frozenset(
    ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"]
)
#: Other names of torch's.
_ALIASES = {"half": "float16", "float": "float32", "double": "float64"}


@functools.cache
def numpy_dtypes() -> dict[str, Any]:
    """numpy's dtype for each name; one that numpy lacks is a field of that name, of raw bytes."""
    import numpy

    ml_dtypes: Any = None
    with contextlib.suppress(ImportError):
        import ml_dtypes
    dtypes: dict[str, Any] = {}
    for name, (own, width) in _OWN.items():
        scalar = getattr(numpy, own.replace("bool", "bool_"), getattr(ml_dtypes, own, None))
        is_raw = name in PACKED or scalar is None
        dtypes[name] = numpy.dtype([(name, f"V{width}")] if is_raw else scalar)
    return dtypes


@functools.cache
def torch_dtypes() -> dict[str, Any]:
    """torch's dtype for each name, as far as the installed torch has it."""
    import torch

    found = ((name, getattr(torch, own, None)) for name, (own, _) in _OWN.items())
    return {name: dtype for name, dtype in found if dtype is not None}


def of_framework(framework: str) -> dict[str, Any]:
    """The framework's dtype for each name."""
    match framework:
        case "numpy":
            return numpy_dtypes()
        case "torch":
            try:
                return torch_dtypes()
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    f"torch's tensors need the package torch ({error}); install it, or ask for "
                    "framework='numpy' and device='cpu'",
                    name=error.name,
                ) from error
    raise MisuseError(f"expected framework 'numpy' or 'torch', found {framework!r}")


def name_of(dtype: Any) -> str:
    """The name of a dtype of numpy's or torch's, or of a name in either's style."""
    text = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    text = text.removeprefix("torch.").removeprefix("numpy.")
    if text.upper() in _OWN:
        return text.upper()
    text = _ALIASES.get(text, text)
    for name, (own, _) in _OWN.items():
        if own == text:
            return name
    raise MisuseError(
        f"{dtype!r} is no dtype that tensorlift knows (expected F64, F32, F16 or BF16)"
    )
