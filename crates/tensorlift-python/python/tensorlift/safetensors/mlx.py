"""`safetensors.mlx`: the original, which tensorlift does not replace."""

from __future__ import annotations

from typing import Any

from .. import _original


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _original.attribute("mlx", name)
