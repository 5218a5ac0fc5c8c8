"""Open checkpoints, and loading from them."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from . import _dtypes, _native
from ._errors import MisuseError, NotFoundError
from ._settings import settings

log = logging.getLogger("tensorlift")

Select = str | Iterable[str] | Callable[["Entry"], bool]
Progress = bool | Callable[[int, int], object]


class Entry(NamedTuple):
    """A tensor as its file describes it."""

    #: The name.
    name: str
    #: The dtype, by safetensors' names: `F32`, `BF16`.
    dtype: str
    #: The size of each dimension, in elements.
    shape: tuple[int, ...]
    #: The distance between neighbours in each dimension, in elements; `None` for row-major ones.
    strides: tuple[int, ...] | None
    #: The bytes of all elements.
    nbytes: int
    #: The file that holds it.
    path: str
    #: Its first byte in the file, and the end.
    extent: tuple[int, int]
    #: Whether the file marks it as a trained parameter.
    requires_grad: bool
    #: Entries of one record share memory.
    record: int


class Report(dict[str, Any]):
    """What a load took, and how it was done: what `tensorlift load --json` prints.

    `str()` of it is one line.
    """

    def __init__(self, text: str, line: str) -> None:
        super().__init__(json.loads(text))
        self.line = line

    def __str__(self) -> str:
        return self.line


class Tensors(dict[str, Any]):
    """Loaded tensors by name, in file order: a dict, and the report of the load."""

    #: What the load took, and how it was done.
    report: Report

    __slots__ = ("report",)


class Filled(NamedTuple):
    """What `Checkpoint.load_into` did."""

    #: Names that were filled.
    filled: list[str]
    #: Names of the model that the checkpoint lacks: left as they were.
    missing: list[str]
    #: Names of the checkpoint that the model lacks: not loaded.
    unexpected: list[str]
    #: What the load took.
    report: Report


Path = str | os.PathLike[str]


def open(
    path: Path | Sequence[Path],
    *,
    variant: str | None = None,
    root: str | None = None,
    hub_cache: str | os.PathLike[str] | None = None,
    strict: bool = False,
) -> Checkpoint:
    """Opens a checkpoint and reads what it lists, without a tensor's bytes.

    `path` is a safetensors or PyTorch file, a folder, an index file, or the name of a model in
    the Hugging Face cache (`org/name` or `org/name@revision`); several are one checkpoint, whose
    names must differ. Nothing is downloaded, and no code from a file is run.

    `variant` chooses files such as `model.fp16.safetensors` in a folder. `root` takes only the
    tensors below a path in a PyTorch file and cuts it off their names: with `"state_dict"`,
    `state_dict.layer.weight` becomes `layer.weight`; `"auto"` looks for the model's own names.
    `strict` refuses PyTorch files with classes that are no plain data; without it, they are kept
    as inert data.

    >>> import tensorlift
    >>> checkpoint = tensorlift.open("fixtures/tiny-model")
    >>> len(checkpoint)
    40
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not paths:
        raise MisuseError("expected a path or several, found none")
    return Checkpoint(_native.Checkpoint.open(paths, variant, hub_cache, strict, root))


def load(path: Path | Sequence[Path], **options: Any) -> Tensors:
    """Opens a checkpoint and loads it; options as for `Checkpoint.load`."""
    return open(path).load(**options)


class Checkpoint(Mapping[str, Entry]):
    """An open checkpoint: a mapping from the names of its tensors to what is known of them.

    `load` gives the tensors themselves.
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
        row = self._native.entry(name)
        if row is None:
            raise NotFoundError(
                f"{self._native.chosen()}: tensor {name!r}: it is not in the checkpoint",
                path=self._native.chosen(),
                tensor=name,
            )
        return self._entry(row)

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
        device: str | Mapping[str, Any] = "cpu",
        *,
        dtype: Any = None,
        select: Select | None = None,
        reader: str | None = None,
    ) -> dict[str, Any]:
        """What a load would read, and where to; nothing is read."""
        request = self._request(device, dtype, select, reader=reader)
        plan: dict[str, Any] = json.loads(self._native.plan(request, True))
        return plan

    def load(
        self,
        device: Any = "cpu",
        *,
        dtype: Any = None,
        select: Select | None = None,
        framework: str | None = None,
        threads: int | None = None,
        reader: str | None = None,
        max_memory: int | None = None,
        verify: bool = False,
        progress: Progress = False,
    ) -> Tensors:
        """Loads tensors: when it returns, every byte is where it belongs.

        Gives a dict in file order, with the report of the load as `.report`.

        `device` is `"cpu"`, `"cuda:0"`, a torch device, `"auto"` (a GPU if there is one), or a
        dict from patterns to devices: the longest prefix up to a dot or matching pattern counts,
        `""` is for all others.
        `dtype` (F64, F32, F16 or BF16, by any name or as numpy's or torch's) converts tensors of
        these four while they are read, and leaves all others and the scales of quantized ones as
        they are.
        `select` is a pattern such as `"encoder.*"`, a list of names, or a function of an `Entry`.
        `framework` is `"numpy"` or `"torch"`; without one, torch for GPUs and numpy otherwise.
        `threads` is how many read at once; `reader` is auto, buffered, direct, uring or map (a
        read-only view of the page cache); `max_memory` refuses to allocate more bytes.
        `verify` checks the CRC-32 that PyTorch archives declare.
        `progress` is `True` for a bar, or a function of bytes done and bytes in all, called by
        this thread; what it raises cancels the load. Ctrl-C cancels too.
        """
        request = self._request(
            device, dtype, select, reader=reader, threads=threads, max_memory=max_memory
        )
        request["verify"] = verify
        return self._load(request, framework, progress)

    def _load(self, request: dict[str, Any], framework: str | None, progress: Progress) -> Tensors:
        on_gpu = any(name != "cpu" for name in request["devices"])
        framework = framework or ("torch" if on_gpu else "numpy")
        if framework == "numpy" and on_gpu:
            raise MisuseError(
                "numpy arrays are in host memory; ask for framework='torch' or device='cpu'"
            )
        tensors = Tensors()
        with _Bar(progress) as told:
            names = _names(framework)
            report, line = self._native.load(tensors, request, framework, names, told)
        tensors.report = Report(report, line)
        log.info("%s: %s", self._native.chosen(), line)
        return tensors

    def load_each(
        self,
        device: Any = "cpu",
        *,
        select: Select | None = None,
        window_bytes: int = 64 << 20,
        **options: Any,
    ) -> Iterator[tuple[str, Any]]:
        """Loads tensors in file order and yields `(name, tensor)`, about `window_bytes` at once.

        Only the window and what the caller keeps take memory. Options as for `load`.
        """
        wanted = None if select is None else set(self._selected(select) or ())
        window: list[str] = []
        held = 0
        for entry in self.entries():
            if wanted is not None and entry.name not in wanted:
                continue
            if window and held + entry.nbytes > window_bytes:
                yield from _drain(self.load(device, select=window, **options))
                window, held = [], 0
            window.append(entry.name)
            held += entry.nbytes
        if window:
            yield from _drain(self.load(device, select=window, **options))

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
        are given memory of their own. Shapes are compared before the first byte is read; floats
        are converted to the target's dtypes while they are read. Where all memory is the host's,
        bytes are read straight into place, and nothing else may write to it meanwhile.
        `strict` makes an error of missing and unexpected names, which the result lists otherwise.
        """
        from ._fill import fill

        def asked(names: list[str]) -> dict[str, Any]:
            return request(names, ["cpu"], reader=reader, threads=threads)

        return fill(self, target, strict, asked, progress)

    def _load_into(
        self, asked: dict[str, Any], memory: list[tuple[str, Any]], progress: Progress
    ) -> Report:
        """Reads tensors straight into memory that is there."""
        with _Bar(progress) as told:
            report, line = self._native.load_into(asked, memory, told)
        log.info("%s: %s", self._native.chosen(), line)
        return Report(report, line)

    def _selected(self, select: Select | None) -> list[str] | None:
        if select is None:
            return None
        if isinstance(select, str):
            if not any(sign in select for sign in "*?["):
                return [select]
            return fnmatch.filter(self._native.keys(), select)
        if callable(select):
            return [entry.name for entry in self.entries() if select(entry)]
        return list(select)

    def _request(
        self, device: Any, dtype: Any, select: Select | None, **words: Any
    ) -> dict[str, Any]:
        devices, device_of = self._devices(device)
        found = request(self._selected(select), devices, **words)
        found["device_of"] = device_of
        if dtype is not None:
            found["dtype"] = _dtypes.name_of(dtype)
        return found

    def _devices(self, device: Any) -> tuple[list[str], dict[str, int] | None]:
        if not isinstance(device, Mapping):
            return [device_name(device)], None
        devices = sorted({device_name(one) for one in device.values()})
        number = {pattern: devices.index(device_name(one)) for pattern, one in device.items()}
        return devices, {name: number[_pattern_of(name, number)] for name in self}


def request(
    names: list[str] | None,
    devices: list[str],
    reader: str | None = None,
    threads: int | None = None,
    max_memory: int | None = None,
) -> dict[str, Any]:
    """What the native part is asked for: the call's own words, or else the switches'."""
    switches = settings()
    return {
        "names": names,
        "devices": devices,
        "device_of": None,
        "reader": reader or switches.reader,
        "threads": switches.threads if threads is None else threads,
        "chunk_bytes": None,
        "max_memory": switches.max_memory if max_memory is None else max_memory,
        "page_cache": "keep",
        "verify": False,
        "dtype": None,
        "dtype_of": None,
    }


def _drain(tensors: MutableMapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in list(tensors):
        yield name, tensors.pop(name)


def _names(framework: str) -> dict[str, Any]:
    match framework:
        case "numpy":
            return _dtypes.numpy_dtypes()
        case "torch":
            return _dtypes.torch_dtypes()
    raise MisuseError(f"expected framework 'numpy' or 'torch', found {framework!r}")


def device_name(device: Any) -> str:
    """The name of a device: `cpu` or `cuda:N`."""
    if isinstance(device, bool):
        raise MisuseError(f"expected a device, found {device!r}")
    if isinstance(device, int):
        return f"cuda:{device}"
    text = str(device)
    if text == "auto":
        import torch

        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if text == "cuda":
        import torch

        return f"cuda:{torch.cuda.current_device()}"
    return text.removesuffix(":0") if text.startswith("cpu") else text


def _pattern_of(name: str, patterns: Mapping[str, int]) -> str:
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


class _Bar:
    """The callback for progress: the caller's, a bar on stderr, or none."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._drawn = False

    def __enter__(self) -> Callable[[int, int], object] | None:
        if callable(self._progress):
            return self._progress
        return self._draw if self._progress else None

    def _draw(self, done: int, total: int) -> None:
        import sys

        share = done / total if total else 1.0
        bar = "#" * int(30 * share)
        sys.stderr.write(f"\r[{bar:<30}] {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
        sys.stderr.flush()
        self._drawn = True

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            import sys

            sys.stderr.write("\n")
