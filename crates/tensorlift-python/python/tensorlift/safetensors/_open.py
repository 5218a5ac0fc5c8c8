"""`safe_open`: the header when it is opened, bytes when they are asked for."""

from __future__ import annotations

import math
import os
import threading
import weakref
from typing import Any

from .. import _dtypes, _native, _original, _request
from .._errors import Error
from .._results import Report
from ._error import SafetensorError

#: Files up to this many bytes are read whole: two reads take longer.
_SMALL_BYTES = 1 << 20
#: A caller that asks for less than one byte in this many gets those bytes alone.
_SHARE = 10
#: Frameworks that are loaded here.
_FRAMEWORKS = {
    "pt": "torch",
    "torch": "torch",
    "pytorch": "torch",
    "np": "numpy",
    "numpy": "numpy",
}
_OTHERS = {"tf", "tensorflow", "jax", "flax", "mlx", "paddle"}
_BACKENDS = ("mmap", "pread")


class safe_open:
    """Opens a safetensors file and loads its tensors as they are asked for.

    Opening reads the header alone. As long as less than a tenth of the file is asked for, in whole
    tensors or parts, only that is read; then the rest is read at once, by tensorlift's usual plan,
    and later tensors are views of what is there. A tensor's memory is
    freed when the caller drops it.

    `framework` is `"pt"` or `"np"`, or one of those that the original package serves.
    `backend` is checked and has no other meaning: tensorlift chooses how it reads.
    """

    def __new__(
        cls,
        filename: str | os.PathLike[str],
        framework: str,
        device: Any = "cpu",
        *,
        backend: str = "mmap",
    ) -> Any:
        if framework in _OTHERS:
            original = _original.safetensors
            if original is None:
                raise SafetensorError(f"framework {framework} needs the package safetensors")
            return original.safe_open(filename, framework, device, backend=backend)
        return super().__new__(cls)

    def __init__(
        self,
        filename: str | os.PathLike[str],
        framework: str,
        device: Any = "cpu",
        *,
        backend: str = "mmap",
    ) -> None:
        self._inner: _Inner | None = _Inner(filename, framework, device, backend)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner = None

    def _open(self) -> _Inner:
        if self._inner is None:
            raise SafetensorError("File is closed")
        return self._inner

    def keys(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._open().sizes)

    def offset_keys(self) -> list[str]:
        """The names, in the order of their bytes."""
        return self._open().offset_keys()

    def metadata(self) -> dict[str, str] | None:
        """What the file says of itself."""
        return self._open().native.metadata() or None

    def get_tensor(self, name: str) -> Any:
        """A tensor."""
        return self._open().tensor(name)

    def get_tensors(self) -> dict[str, Any]:
        """All tensors by name, in the order of their bytes."""
        return self._open().tensors()

    def get_slice(self, name: str) -> PySafeSlice:
        """Something to take a part of a tensor from: `f.get_slice(name)[:, 2:4]`."""
        inner = self._open()
        return PySafeSlice(inner, name, inner.row(name))


class _safe_open_handle(safe_open):
    """`safe_open` of a file object with a name and a descriptor."""

    def __new__(cls, f: Any, framework: str, device: Any = "cpu", *, backend: str = "mmap") -> Any:
        return super().__new__(cls, f.name, framework, device, backend=backend)

    def __init__(
        self, f: Any, framework: str, device: Any = "cpu", *, backend: str = "mmap"
    ) -> None:
        f.fileno  # noqa: B018  as the original asks for it
        super().__init__(f.name, framework, device, backend=backend)


class PySafeSlice:
    """A tensor of which a part is wanted; a small one is read alone."""

    def __init__(self, inner: _Inner, name: str, row: tuple[Any, ...]) -> None:
        self._inner = inner
        self._name = name
        self._shape: tuple[int, ...] = row[2]
        self._dtype: str = row[1]

    def get_shape(self) -> list[int]:
        """The shape of the whole tensor."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """The dtype, by safetensors' name."""
        return self._dtype

    def __getitem__(self, index: Any) -> Any:
        key = _checked(index, self._shape)
        return self._inner.part(self._name, key)


class _Inner:
    """An open file and what was loaded of it."""

    def __init__(
        self, filename: str | os.PathLike[str], framework: str, device: Any, backend: str
    ) -> None:
        if framework not in _FRAMEWORKS:
            raise SafetensorError(f"framework {framework} is invalid")
        if backend not in _BACKENDS:
            raise SafetensorError(
                f'backend "{backend}" is invalid (expected one of: "mmap", "pread")'
            )
        self.framework = _FRAMEWORKS[framework]
        self.device, self.moves_to = _device(device, framework)
        self.native = open_native(filename)
        self._lock = threading.Lock()
        self._dtypes = _dtypes.of_framework(self.framework)
        self.sizes = {row[0]: row[4] for row in stored(self.native)}
        total = sum(self.sizes.values())
        # Bytes that may be read for single tensors before the rest is read at once.
        self._allowance = 0 if total <= _SMALL_BYTES else total // _SHARE
        self._was_read = False
        # Loaded and not yet asked for.
        self._ready: dict[str, Any] = {}
        # Returned to the caller, who decides how long it lives.
        self._given: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        # The tensor that a part was taken of last: often more parts of it follow.
        self._sliced: tuple[str, Any] | None = None

    def row(self, name: str) -> tuple[Any, ...]:
        if name not in self.sizes:
            raise SafetensorError(f"File does not contain tensor {name}")
        return self.native.entry(name)

    def offset_keys(self) -> list[str]:
        return [row[0] for row in sorted(stored(self.native), key=lambda row: row[6])]

    def tensor(self, name: str) -> Any:
        with self._lock:
            tensor = self._take(name)
            self._given[name] = tensor
            return tensor

    def part(self, name: str, key: tuple[slice | int, ...]) -> Any:
        with self._lock:
            tensor = self._held(name)
            if tensor is None:
                part = self._read_part(name, key)
                if part is not None:
                    return part
                tensor = self._take(name)
            part = tensor[key]
            if part.shape == tensor.shape:
                self._given[name] = tensor
                return tensor
            # A copy, so that the caller holds no more than what was asked for.
            self._sliced = (name, tensor)
            return part.clone() if self.framework == "torch" else part.copy()

    def _read_part(self, name: str, key: tuple[slice | int, ...]) -> Any:
        """The part alone, if so little was asked for so far that no more need be read."""
        row = self.row(name)
        shape, size = row[2], self.sizes[name]
        ranges = [_range(item, length) for item, length in zip(key, shape, strict=True)]
        cut = [
            (dim, start, stop)
            for dim, ((start, stop), length) in enumerate(zip(ranges, shape, strict=True))
            if (start, stop) != (0, length)
        ]
        if not cut or not size or row[1] in _dtypes.PACKED:
            return None
        cost = size // math.prod(shape) * _reach(ranges, shape)
        if cost > self._allowance:
            return None
        self._allowance -= cost
        part = self._read(self.native.part(name, cut), None)[name]
        # It begins where the key does.
        rest = (0 if isinstance(item, int) else slice(None, None, item.step) for item in key)
        return part[tuple(rest)]

    def tensors(self) -> dict[str, Any]:
        names = self.offset_keys()
        with self._lock:
            missing = [name for name in names if name not in self._ready]
            self._load(None if len(missing) == len(self.native) else missing)
            found = {name: self._ready.pop(name) for name in names}
        return found

    def _held(self, name: str) -> Any:
        """A tensor that is in memory already, or nothing."""
        if name in self._ready:
            return self._ready.pop(name)
        if self._sliced is not None and self._sliced[0] == name:
            return self._sliced[1]
        return self._given.get(name)

    def _take(self, name: str) -> Any:
        tensor = self._held(name)
        if tensor is not None:
            return tensor
        size = self.sizes.get(name)
        if size is None:
            raise SafetensorError(f"File does not contain tensor {name}")
        if self._was_read or size <= self._allowance:
            # After the file was read, only what the caller has dropped is asked for again.
            self._allowance -= size
            self._load([name])
        else:
            self._load([other for other in self.sizes if other not in self._given])
            self._was_read = True
        return self._ready.pop(name)

    def _load(self, names: list[str] | None) -> None:
        if names is None or names:
            self._ready.update(self._read(self.native, names))

    def _read(self, native: _native.Checkpoint, names: list[str] | None) -> dict[str, Any]:
        loaded = load_native(native, names, self.device, self.framework, self._dtypes)
        if self.moves_to is not None:
            for name, tensor in loaded.items():
                loaded[name] = tensor.to(self.moves_to)
        return loaded


def open_native(filename: str | os.PathLike[str]) -> _native.Checkpoint:
    """Opens one safetensors file; what is wrong is told as the original tells it."""
    path = os.fspath(filename)
    try:
        with open(path, "rb") as file:
            check_header(file.read(9), "Error while deserializing header")
    except IsADirectoryError:
        raise
    except OSError as error:
        raise FileNotFoundError(f"No such file or directory: {path}") from error
    try:
        return _native.Checkpoint.open([path], _request.open_request())
    except Error as error:
        raise SafetensorError(f"Error while deserializing header: {error}") from error


def stored(native: _native.Checkpoint) -> list[tuple[Any, ...]]:
    """The tensors that a file stores: `save_model` leaves further names of them in the metadata,
    which tensorlift lists and the original does not."""
    rows, metadata = native.entries(), native.metadata()
    record = {row[0]: row[9] for row in rows}
    further = {name for name, other in metadata.items() if name != other}
    return [row for row in rows if row[0] not in further or record.get(metadata[row[0]]) != row[9]]


def check_header(start: bytes, during: str) -> None:
    """Refuses what is no safetensors file, though tensorlift may know its format."""
    if len(start) < 8:
        raise SafetensorError(f"{during}: header too small")
    if int.from_bytes(start[:8], "little") > 100_000_000:
        raise SafetensorError(f"{during}: header too large")


def load_native(
    native: _native.Checkpoint,
    names: list[str] | None,
    device: str,
    framework: str,
    dtypes: dict[str, Any],
) -> dict[str, Any]:
    """Loads by the usual plan; all names without any."""
    request = _request.request(names, [device], **_request.as_stored())
    loaded: dict[str, Any] = {}
    try:
        Report(*native.load(loaded, request, framework, dtypes)).log(native.chosen())
    except Error as error:
        raise SafetensorError(str(error)) from error
    return loaded


def _device(device: Any, framework: str) -> tuple[str, Any]:
    """Where tensorlift loads to, and where torch moves them then, if that is elsewhere."""
    text = "cpu" if device is None else str(device)
    if text == "cpu":
        return "cpu", None
    if _FRAMEWORKS[framework] != "torch":
        raise SafetensorError(f"Device {text} is not supported for framework {framework}")
    import torch

    try:
        where = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise SafetensorError(f"device {text} is invalid") from error
    if where.type == "cuda":
        return _request.device_name(where), None
    return ("cpu", None) if where.type == "cpu" else ("cpu", where)


def _checked(index: Any, shape: tuple[int, ...]) -> tuple[slice | int, ...]:
    """An item for each dimension, after the original's checks."""
    if isinstance(index, list):
        if index:
            raise SafetensorError("Non empty lists are not implemented")
        index = slice(0, 0)
    items = list(index) if isinstance(index, tuple) else [index]
    if sum(item is Ellipsis for item in items) > 1:
        raise SafetensorError("Only one ellipsis (...) is allowed in slice index")
    explicit = [item for item in items if item is not Ellipsis]
    fill = [slice(None)] * max(0, len(shape) - len(explicit))
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = fill
    text = ", ".join(_text(item) for item in items)
    during = f"Error during slicing [{text}] with shape {list(shape)}"
    if len(explicit) > len(shape):
        raise SafetensorError(f"{during}: more slicing indexes than dimensions in tensor")
    items += [slice(None)] * (len(shape) - len(items))
    return tuple(
        _checked_item(item, dim, size, during)
        for dim, (item, size) in enumerate(zip(items, shape, strict=True))
    )


def _range(item: slice | int, size: int) -> tuple[int, int]:
    """The first index that an item takes of a dimension, and the end."""
    if isinstance(item, int):
        first = item + size if item < 0 else item
        return first, first + 1
    taken = range(size)[item]
    return (taken[0], taken[-1] + 1) if taken else (0, 0)


def _reach(ranges: list[tuple[int, int]], shape: tuple[int, ...]) -> int:
    """The elements from the first to the last of a part, those between them too."""
    if any(start == stop for start, stop in ranges):
        return 0
    reach, stride = 1, 1
    for (start, stop), size in zip(reversed(ranges), reversed(shape), strict=True):
        reach += (stop - 1 - start) * stride
        stride *= size
    return reach


def _checked_item(item: Any, dim: int, size: int, during: str) -> Any:
    if isinstance(item, slice):
        start, stop, step = (
            None if part is None else part.__index__()
            for part in (item.start, item.stop, item.step)
        )
        if step is not None and step <= 0:
            raise SafetensorError(f"Slice step must be a positive integer, got {step}")
        if (start or 0) < 0 or (stop or 0) < 0:
            raise OverflowError("can't convert negative int to unsigned")
        if stop is not None and stop > size:
            raise SafetensorError(
                f"{during}: index {stop - 1} out of bounds for tensor dimension #{dim} "
                f"of size {size}"
            )
        return slice(start, stop, step)
    if not hasattr(item, "__index__"):
        raise SafetensorError(
            f"Unsupported slice index at position {dim}: expected slice, int, or ellipsis"
        )
    number = item.__index__()
    if number < -size:
        raise SafetensorError(f"Invalid index {number} for dimension {dim} of size {size}")
    if number >= size:
        raise SafetensorError(
            f"{during}: index {number} out of bounds for tensor dimension #{dim} of size {size}"
        )
    return number


def _text(item: Any) -> str:
    if not isinstance(item, slice):
        return str(item)
    start = "" if item.start is None else item.start
    stop = "" if item.stop is None else item.stop
    step = "" if item.step in (None, 1) else f":{item.step}"
    return f"{start}:{stop}{step}"
