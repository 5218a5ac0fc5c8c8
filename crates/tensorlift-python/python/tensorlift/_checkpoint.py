"""Open checkpoints, and loading from them."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack

from . import _dtypes, _native
from ._errors import MisuseError
from ._progress import Bar, Progress
from ._request import (
    LoadArguments,
    Select,
    as_stored,
    device_name,
    open_request,
    pattern_of,
    request,
)
from ._results import Entry, Filled, Report, Tensors

Path = str | os.PathLike[str]


def open(
    path: Path | Sequence[Path],
    *,
    variant: str | None = None,
    root: str | None = None,
    hub_cache: str | os.PathLike[str] | None = None,
    strict: bool = False,
    limits: Mapping[str, int] | None = None,
) -> Checkpoint:
    """Opens a checkpoint and reads what it lists, without a tensor's bytes.

    `path` is a safetensors or PyTorch file, a folder, an index file, or the name of a model in
    the Hugging Face cache (`org/name` or `org/name@revision`); several are one checkpoint, whose
    names must differ. Nothing is downloaded, and no code from a file is run.

    `variant` chooses files such as `model.fp16.safetensors` in a folder. `root` takes only the
    tensors below a path in a PyTorch file and cuts it off their names: with `"state_dict"`,
    `state_dict.layer.weight` becomes `layer.weight`; `"auto"` looks for the model's own names.
    `strict` refuses PyTorch files with classes that are no plain data; without it, they are kept
    as inert data. `limits` raises or lowers ceilings for untrusted files by name, as in
    `{"name_bytes": 1_000_000}`; the error for an unknown name lists them all.

    Raises `tensorlift.Error`: `NotFoundError`, `MalformedError`, and one class for each other kind.

    >>> import tensorlift
    >>> checkpoint = tensorlift.open("fixtures/tiny-model")
    >>> len(checkpoint)
    40
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    if not _are(paths, str, os.PathLike) or not paths:
        raise MisuseError(
            f"expected a path, the name of a model, or a list of them, found {path!r}"
        )
    _check_options(variant=variant, root=root, strict=strict, limits=limits)
    request = open_request(
        variant=variant, root=root, hub_cache=hub_cache, strict=strict, limits=limits
    )
    return Checkpoint(_native.Checkpoint.open(list(paths), request))


def load(
    path: Path | Sequence[Path], device: Any = None, **arguments: Unpack[LoadArguments]
) -> Tensors:
    """Opens a checkpoint and loads it: `tensorlift.open(path).load(device, **arguments)`.

    >>> import tensorlift
    >>> tensors = tensorlift.load("fixtures/tiny-model", dtype="float16")
    >>> tensors["embeddings.LayerNorm.weight"].dtype.name
    'float16'
    """
    return open(path).load(device, **arguments)


def _check_options(variant: object, root: object, strict: object, limits: object) -> None:
    for name, value in (("variant", variant), ("root", root)):
        if not (value is None or isinstance(value, str)):
            raise MisuseError(f"{name}={value!r} (expected a text)")
    if not isinstance(strict, bool):
        raise MisuseError(f"strict={strict!r} (expected True or False)")
    numbers = limits.values() if isinstance(limits, Mapping) else [None]
    if limits is not None and not all(isinstance(it, int) and it >= 0 for it in numbers):
        raise MisuseError(f"limits={limits!r} (expected a dict from names to numbers from 0 on)")


def _are(found: object, *types: type) -> bool:
    """Whether a list, or another sequence, has members of these types alone."""
    if not isinstance(found, Sequence) or isinstance(found, bytes):
        return False
    return all(isinstance(one, types) for one in found)


class Checkpoint(Mapping[str, Entry]):
    """An open checkpoint: a mapping from the names of its tensors to what is known of them.

    `load` returns the tensors themselves; `tensorlift.open` makes a checkpoint.
    """

    def __init__(self, native: _native.Checkpoint) -> None:
        self._native = native
        self._files = [os.fspath(path) for path in native.files()]

    def __getitem__(self, name: str) -> Entry:
        return self.entry(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._native.keys())

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._native

    def __repr__(self) -> str:
        return f"<tensorlift.Checkpoint {self._native.chosen()!r}, {len(self)} tensors>"

    def entry(self, name: str) -> Entry:
        """What the file says of one tensor; `NotFoundError` (a `KeyError`) if it is not there."""
        return self._entry(self._native.entry(name))

    def entries(self) -> list[Entry]:
        """What the files say of all tensors, in file order."""
        return [self._entry(row) for row in self._native.entries()]

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        name, dtype, shape, strides, nbytes, file, start, end, grad, record = row
        path = self._files[file] if file < len(self._files) else self._native.chosen()
        return Entry(name, dtype, shape, strides, nbytes, path, (start, end), grad, record)

    @property
    def metadata(self) -> dict[str, str]:
        """What the files say of themselves: safetensors' `__metadata__`."""
        return self._native.metadata()

    @property
    def files(self) -> list[str]:
        """The files with the tensors."""
        return list(self._files)

    @property
    def roots(self) -> dict[str, int]:
        """Paths in a PyTorch file that hold tensors, with their number; for `open(root=)`."""
        return dict(self._native.roots())

    def plan(
        self,
        device: Any = None,
        *,
        dtype: Any = None,
        select: Select | None = None,
        reader: str | None = None,
        mode: str | None = None,
    ) -> dict[str, Any]:
        """What a load would read, and where to; nothing is read."""
        request = self._request(device, dtype, select, reader=reader, mode=mode)
        plan: dict[str, Any] = json.loads(self._native.plan(request, True))
        return plan

    def load(
        self,
        device: Any = None,
        *,
        dtype: Any = None,
        select: Select | None = None,
        framework: str | None = None,
        threads: int | None = None,
        reader: str | None = None,
        mode: str | None = None,
        max_memory: int | str | None = None,
        verify: bool | None = None,
        progress: Progress = False,
    ) -> Tensors:
        """Loads tensors: when it returns, every byte is where it belongs.

        Returns a dict in file order, with the report of the load as `.report`.

        `device` is `"cpu"` (the default), `"cuda:0"`, a torch device, `"auto"` (a GPU if there is
        one), or a dict from patterns to devices: the longest prefix up to a dot or matching
        pattern counts, `""` is for all others.
        `dtype` (F64, F32, F16 or BF16, by any name or as numpy's or torch's) converts tensors of
        these four while they are read, and leaves all others and the scales of quantized ones as
        they are.
        `select` is a pattern such as `"encoder.*"`, a list of names, or a function of an `Entry`.
        `framework` is `"numpy"` or `"torch"`; without one, torch for GPUs and numpy otherwise.
        `threads` is how many read at once; `reader` is auto, buffered, direct or uring; `mode` is
        copy, or map for read-only arrays that view the page cache; `max_memory` refuses to
        allocate more, in bytes or as a size such as `"2GiB"`. `verify` checks the CRC-32 that
        PyTorch archives declare. What is left out is as `tensorlift.settings()` says.
        `progress` is `True` for a bar, or a function of bytes done and bytes in all, called by
        this thread; what it raises cancels the load. Ctrl-C cancels too.
        """
        request = self._request(
            device,
            dtype,
            select,
            threads=threads,
            reader=reader,
            mode=mode,
            max_memory=max_memory,
            verify=verify,
        )
        return self._load(request, framework, progress)

    def _load(self, request: dict[str, Any], framework: str | None, progress: Progress) -> Tensors:
        on_gpu = any(name != "cpu" for name in request["devices"])
        framework = framework or ("torch" if on_gpu else "numpy")
        if framework == "numpy" and on_gpu:
            raise MisuseError(
                "numpy arrays are in host memory; ask for framework='torch' or device='cpu'"
            )
        tensors = Tensors()
        with Bar(progress) as told:
            names = _dtypes.of_framework(framework)
            report, line = self._native.load(tensors, request, framework, names, told)
        tensors.report = Report(report, line).log(self._native.chosen())
        return tensors

    def load_each(
        self,
        device: Any = None,
        *,
        window_bytes: int = 64 << 20,
        **arguments: Unpack[LoadArguments],
    ) -> Iterator[tuple[str, Any]]:
        """Loads tensors in file order and yields `(name, tensor)`, about `window_bytes` at once.

        Only the window and what the caller keeps take memory. Other arguments as for `load`.
        """
        selected = self._selected(arguments.pop("select", None))
        wanted = None if selected is None else set(selected)
        window: list[str] = []
        held = 0
        for entry in self.entries():
            if wanted is not None and entry.name not in wanted:
                continue
            if window and held + entry.nbytes > window_bytes:
                yield from self._window(window, device, arguments)
                window, held = [], 0
            window.append(entry.name)
            held += entry.nbytes
        if window:
            yield from self._window(window, device, arguments)

    def _window(
        self, names: list[str], device: Any, arguments: LoadArguments
    ) -> Iterator[tuple[str, Any]]:
        arguments["select"] = names
        tensors = self.load(device, **arguments)
        for name in names:
            # Each is the caller's alone once it is yielded.
            yield name, tensors.pop(name)

    def state(self) -> Any:
        """What a PyTorch file holds, with tensors as their names.

        Plain data is itself; `OrderedDict`s keep their attributes (`_metadata`); an object of any
        other class is an `Inert` note of what the file says of it, and nothing of it is run.
        `NotFoundError` for safetensors files, which hold nothing beside tensors.
        """
        from ._rebuild import PlainMaker, TensorName

        names = {name: TensorName(name) for name in self._native.keys()}
        return self._native.rebuild(names, PlainMaker())

    def load_into(
        self,
        target: Any,
        *,
        strict: bool = False,
        threads: int | None = None,
        reader: str | None = None,
        progress: Progress = False,
    ) -> Filled:
        """Loads into a `torch.nn.Module`, or a dict of tensors or arrays.

        Parameters and buffers that have memory are refilled where they are, and those on `meta`
        get memory of their own. What does not fit is refused before the first byte is read; floats
        are converted to the target's dtypes while they are read. Where all memory is the host's,
        bytes are read straight into place, and nothing else may write to it meanwhile.
        `strict` makes an error of missing and unexpected names, which the result lists otherwise.
        """
        from ._fill import fill

        def asked(names: list[str]) -> dict[str, Any]:
            changes = as_stored() | {"reader": reader, "threads": threads}
            return request(names, ["cpu"], **changes)

        return fill(self, target, strict, asked, progress)

    def _load_into(
        self, asked: dict[str, Any], memory: list[tuple[str, Any]], progress: Progress
    ) -> Report:
        """Reads tensors straight into memory that is there."""
        with Bar(progress) as told:
            report, line = self._native.load_into(asked, memory, told)
        return Report(report, line).log(self._native.chosen())

    def _selected(self, select: Select | None) -> list[str] | None:
        if select is None:
            return None
        if isinstance(select, str):
            if not any(sign in select for sign in "*?["):
                return [select]
            return fnmatch.filter(self._native.keys(), select)
        if callable(select):
            return [entry.name for entry in self.entries() if select(entry)]
        names = list(select) if isinstance(select, Iterable) else select
        if not _are(names, str):
            raise MisuseError(
                f"select={select!r} (expected a pattern, a list of names, or a function of an entry)"
            )
        return names

    def _request(
        self, device: Any, dtype: Any, select: Select | None, **changes: object
    ) -> dict[str, Any]:
        devices, device_of = self._devices(device)
        if dtype is not None:
            is_kept = isinstance(dtype, str) and dtype == "keep"
            changes["dtype"] = "keep" if is_kept else _dtypes.name_of(dtype)
        found = request(self._selected(select), devices, **changes)
        found["device_of"] = device_of
        return found

    def _devices(self, device: Any) -> tuple[list[str], dict[str, int] | None]:
        if not isinstance(device, Mapping):
            return [device_name(device)], None
        devices = sorted({device_name(one) for one in device.values()})
        number = {pattern: devices.index(device_name(one)) for pattern, one in device.items()}
        return devices, {name: number[pattern_of(name, number)] for name in self}
