"""tensorlift loads model checkpoints eagerly, fast and safely.

    import tensorlift

    tensors = tensorlift.load("model.safetensors")              # numpy arrays, by name
    checkpoint = tensorlift.open("org/model")                   # what is in it; nothing loaded
    tensors = checkpoint.load("cuda:0", dtype="bfloat16")       # torch tensors on a GPU
    print(tensors.report)

It reads safetensors and PyTorch files, single and sharded, without running any code from them.
`tensorlift.safetensors` replaces the package safetensors, `tensorlift.torch.load` replaces
`torch.load`, and `tensorlift.patch()` puts both under programs that are there already.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._checkpoint import Checkpoint, load, open
from ._errors import (
    CancelledError,
    DeviceError,
    Error,
    LimitExceededError,
    MalformedError,
    MisuseError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from ._patch import Patch, patch, unpatch
from ._request import LoadArguments
from ._results import Entry, Filled, Report, Tensors
from ._settings import Settings, configure, settings

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "Checkpoint",
    "DeviceError",
    "Entry",
    "Error",
    "Filled",
    "LimitExceededError",
    "LoadArguments",
    "MalformedError",
    "MisuseError",
    "NotFoundError",
    "Patch",
    "Report",
    "Settings",
    "StorageError",
    "Tensors",
    "UnsupportedError",
    "configure",
    "load",
    "open",
    "patch",
    "settings",
    "unpatch",
]

if TYPE_CHECKING:
    from . import safetensors, torch
else:

    def __getattr__(name: str) -> Any:
        # Imported when they are asked for: the drop-in for torch imports torch.
        if name in ("safetensors", "torch"):
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if settings().is_on("patch"):
    patch()
