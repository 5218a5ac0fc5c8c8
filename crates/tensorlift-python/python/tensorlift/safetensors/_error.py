"""The exception of safetensors: the original's where that is installed, so that callers that
catch it catch ours."""

from __future__ import annotations

from .. import _original

if _original.safetensors is not None:
    SafetensorError = _original.safetensors.SafetensorError
else:

    class SafetensorError(Exception):  # type: ignore[no-redef]
        """A file that cannot be read, or a call that cannot be served."""


__all__ = ["SafetensorError"]
