"""Switches: from the environment, or set by the program."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

from ._errors import MisuseError

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


@dataclass(frozen=True)
class Settings:
    """Switches of this package; each has an environment variable, read when it is imported.

    An argument of a call wins over a switch.
    """

    #: `TENSORLIFT_READER`: auto, buffered, direct, uring or map.
    reader: str = "auto"
    #: `TENSORLIFT_THREADS`: threads that read at once; chosen for each load without.
    threads: int | None = None
    #: `TENSORLIFT_MAX_MEMORY`: the most bytes that one load may allocate.
    max_memory: int | None = None
    #: `TENSORLIFT_PATCH`: whether `import tensorlift` calls `patch()`.
    patch: bool = False
    #: `TENSORLIFT_PATCH_SAFE_OPEN`: whether `patch()` covers `safetensors.safe_open`.
    patch_safe_open: bool = True
    #: `TENSORLIFT_PATCH_LOAD_FILE`: whether `patch()` covers `safetensors.torch.load_file`.
    patch_load_file: bool = True
    #: `TENSORLIFT_PATCH_TORCH_LOAD`: whether `patch()` covers `torch.load`.
    patch_torch_load: bool = True


def settings() -> Settings:
    """The switches in force."""
    return _current


def configure(**changes: object) -> Settings:
    """Changes switches, and gives those now in force."""
    global _current
    known = {field.name for field in fields(Settings)}
    for name in changes.keys() - known:
        raise MisuseError(f"there is no switch {name!r}; there are {sorted(known)}")
    _current = replace(_current, **changes)  # type: ignore[arg-type]
    return _current


def _from_environment() -> Settings:
    found: dict[str, object] = {}
    for field in fields(Settings):
        variable = f"TENSORLIFT_{field.name.upper()}"
        text = os.environ.get(variable, "").strip()
        if text:
            found[field.name] = _parse(variable, text, str(field.type))
    return Settings(**found)  # type: ignore[arg-type]


def _parse(variable: str, text: str, kind: str) -> object:
    if kind == "str":
        return text
    if kind == "bool" and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if kind.startswith("int") and text.isascii() and text.isdigit():
        return int(text)
    expected = "0 or 1" if kind == "bool" else "a whole number"
    raise MisuseError(
        f"{variable}: expected {expected}, found {text!r}; correct it or leave it empty",
        remedy="correct it or leave it empty",
    )


_current = _from_environment()
