"""Replaces the package safetensors: the same names, loading by tensorlift.

    from tensorlift.safetensors import safe_open
    from tensorlift.safetensors.torch import load_file, save_file

Files are opened, loaded and written by tensorlift. Frameworks other than numpy and torch
(flax, mlx, paddle, tensorflow) and helpers that neither load nor save are the original's, which
must be installed for them.
"""

from __future__ import annotations

from ._error import SafetensorError
from ._open import _safe_open_handle, safe_open
from ._save import TensorSpec, deserialize, serialize, serialize_file

#: The version of safetensors whose names these are.
__version__ = "0.8.0"

__all__ = [
    "SafetensorError",
    "TensorSpec",
    "__version__",
    "_safe_open_handle",
    "deserialize",
    "safe_open",
    "serialize",
    "serialize_file",
]
