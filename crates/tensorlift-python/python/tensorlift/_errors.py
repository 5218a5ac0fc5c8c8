"""What can go wrong: one class for each kind of error."""

from __future__ import annotations

__all__ = [
    "CancelledError",
    "DeviceError",
    "Error",
    "LimitExceededError",
    "MalformedError",
    "MisuseError",
    "NotFoundError",
    "StorageError",
    "UnsupportedError",
]


class Error(Exception):
    """An error of tensorlift; its text is the line that the command line prints.

    `path`, `tensor`, `extent` (first byte and end in the file) and `remedy` are `None` where
    they are not known.
    """

    path: str | None
    tensor: str | None
    extent: tuple[int, int] | None
    remedy: str | None

    def __init__(
        self,
        message: str = "",
        *,
        path: object = None,
        tensor: str | None = None,
        extent: tuple[int, int] | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else str(path)
        self.tensor = tensor
        self.extent = extent
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        details = {key: getattr(self, key) for key in ("path", "tensor", "extent", "remedy")}
        return (_make, (type(self), self.message, details))


def _make(cls: type[Error], message: str, details: dict[str, object]) -> Error:
    return cls(message, **details)  # type: ignore[arg-type]


class StorageError(Error, OSError):
    """Reading failed: the disk, the network mount, the permissions."""


class MalformedError(Error, ValueError):
    """The file breaks its format: fetch it again."""


class UnsupportedError(Error, NotImplementedError):
    """The file is fine, but uses what this version cannot load."""


class LimitExceededError(Error, ValueError):
    """A ceiling was crossed: raise it if the input is trusted."""


class NotFoundError(Error, FileNotFoundError, KeyError):
    """A file, tensor or hub entry that was asked for does not exist."""


class DeviceError(Error, RuntimeError):
    """The device refused: out of memory, lost, or without a driver."""


class MisuseError(Error, ValueError):
    """The call itself was wrong."""


class CancelledError(Error):
    """The caller cancelled."""


BY_KIND: dict[str, type[Error]] = {
    "storage": StorageError,
    "malformed": MalformedError,
    "unsupported": UnsupportedError,
    "limit_exceeded": LimitExceededError,
    "not_found": NotFoundError,
    "device": DeviceError,
    "misuse": MisuseError,
    "cancelled": CancelledError,
}

for _class in (Error, *BY_KIND.values()):
    # Tracebacks name it as people do.
    _class.__module__ = "tensorlift"
