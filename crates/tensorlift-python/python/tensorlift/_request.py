"""What the native part is asked for."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from ._errors import MisuseError
from ._progress import Progress
from ._results import Entry
from ._settings import changes_of, settings

Select = str | Iterable[str] | Callable[[Entry], bool]


class LoadArguments(TypedDict, total=False):
    """The arguments of `Checkpoint.load` but the device; its page says what each does."""

    dtype: Any
    select: Select | None
    framework: str | None
    threads: int | None
    reader: str | None
    mode: str | None
    max_memory: int | str | None
    verify: bool | None
    progress: Progress


def as_stored() -> dict[str, object]:
    """What a drop-in changes of the settings: it returns what the original returns."""
    unchanged = {"dtype": "keep", "mode": "copy"}
    return {name: value for name, value in unchanged.items() if settings()[name] is not None}


def request(names: list[str] | None, devices: list[str], **changes: object) -> dict[str, Any]:
    """What the native part is asked to load: by the settings in force under those of the call."""
    return {
        "names": names,
        "devices": devices,
        "device_of": None,
        "settings": settings().native,
        "changes": changes_of(changes),
        "dtype_of": None,
    }


def open_request(
    variant: str | None = None,
    root: str | None = None,
    hub_cache: str | os.PathLike[str] | None = None,
    strict: bool = False,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """How the native part is asked to open."""
    return {
        "variant": variant,
        "root": root,
        "hub_cache": hub_cache,
        "strict": strict,
        "limits": dict(limits or {}),
        "settings": settings().native,
    }


def device_name(device: Any) -> str:
    """The name of a device: `cpu` or `cuda:N`; without one, that of the settings."""
    if device is None:
        device = settings()["device"] or "cpu"
    if isinstance(device, bool):
        raise MisuseError(f"expected a device, found {device!r}")
    if isinstance(device, int):
        return f"cuda:{device}"
    text = str(device)
    if text == "auto":
        return _gpu() or "cpu"
    if text == "cuda":
        return _gpu() or "cuda:0"
    if text in ("cpu", "host", "cpu:0"):
        return "cpu"
    if not re.fullmatch(r"cuda:\d+", text):
        remedy = "name `cpu` or a GPU such as `cuda:0`"
        raise MisuseError(f"expected the name of a device, found {text!r}; {remedy}", remedy=remedy)
    return text


def _gpu() -> str | None:
    """The GPU that torch works on; none without torch, whose tensors those on a GPU are."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else None


def pattern_of(name: str, patterns: Mapping[str, int]) -> str:
    """The longest pattern for a name: a prefix up to a dot, or with wildcards."""
    found = [
        pattern
        for pattern in patterns
        if pattern == ""
        or name == pattern
        or name.startswith(pattern + ".")
        or (any(sign in pattern for sign in "*?[") and fnmatch.fnmatchcase(name, pattern))
    ]
    if not found:
        raise MisuseError(
            f"tensor {name!r}: no pattern of the device map matches; "
            "add the pattern '' for all others",
            tensor=name,
            remedy="add the pattern '' for all others",
        )
    return max(found, key=len)
