"""The packages that tensorlift replaces, as they are without it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

#: The package safetensors, if it is installed: imported once, before anything can replace it.
safetensors: ModuleType | None
try:
    import safetensors
except ImportError:
    safetensors = None

_modules: dict[str, ModuleType] = {}
if safetensors is not None:
    _modules["safetensors"] = safetensors


def module(name: str) -> ModuleType:
    """`safetensors.NAME` of the original; an `ImportError` if it is not installed."""
    full = f"safetensors.{name}"
    if full not in _modules:
        if safetensors is None:
            raise ImportError(f"{full} is not installed; `pip install safetensors` brings it")
        is_itself = sys.modules.get("safetensors") is safetensors
        _modules[full] = importlib.import_module(full) if is_itself else _import(full)
    return _modules[full]


def _import(full: str) -> ModuleType:
    """Imports below the original while something else has its name."""
    replacements = {key: value for key, value in sys.modules.items() if _is_below(key)}
    for key in replacements:
        del sys.modules[key]
    sys.modules.update(_modules)
    try:
        return importlib.import_module(full)
    finally:
        fresh = {key: value for key, value in sys.modules.items() if _is_below(key)}
        for key in fresh:
            del sys.modules[key]
        sys.modules.update({**fresh, **replacements})


def _is_below(name: str) -> bool:
    return name == "safetensors" or name.startswith("safetensors.")


def attribute(name: str, key: str) -> Any:
    """`safetensors.NAME.KEY` of the original, as an `AttributeError` tells it is missing."""
    try:
        return getattr(module(name), key)
    except ImportError as error:
        raise AttributeError(f"{key}: {error}") from error
