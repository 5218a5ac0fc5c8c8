"""`tensorlift.torch.load` returns what `torch.load` returns."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch as _torch

from . import _dtypes, _native, _rebuild, _request
from ._errors import Error
from ._results import Report

__all__ = ["load"]

log = logging.getLogger("tensorlift")

#: `torch.load` as it is without `tensorlift.patch()`.
_original = _torch.load


class NotServed(Exception):
    """A call that the original serves, and why."""


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Loads what `torch.save` wrote, by tensorlift where the result is exactly the same.

    The signature is that of `torch.load`, as are containers, their order, sharing, strides,
    parameters and devices of the result. What tensorlift does not make goes to the original, and
    the log of the name `tensorlift` says why: file objects, callables as `map_location`, classes
    that `weights_only=True` refuses, tensors that look at a part of their storage alone.
    No code from the file is run by tensorlift; the original runs it with `weights_only=False`.
    """
    try:
        return load_served(f, map_location, pickle_module, pickle_load_args)
    except (NotServed, Error) as error:
        log.info("torch.load of %s goes to the original: %s", _name(f), error)
    if mmap is not None:
        pickle_load_args["mmap"] = mmap
    return _original(f, map_location, pickle_module, weights_only=weights_only, **pickle_load_args)


def load_served(f: Any, map_location: Any, pickle_module: Any, arguments: Mapping[str, Any]) -> Any:
    """Loads by tensorlift, or raises `NotServed` or an `Error`."""
    return _load(_served(f, pickle_module, arguments), map_location)


def _served(f: Any, pickle_module: Any, arguments: Mapping[str, Any]) -> str:
    if not isinstance(f, (str, os.PathLike)):
        raise NotServed("it is no path")
    if pickle_module is not None:
        raise NotServed("a pickle module is passed")
    if arguments:
        raise NotServed(f"arguments for pickle are passed: {sorted(arguments)}")
    path = os.fspath(f)
    if not isinstance(path, str) or not os.path.isfile(path):
        raise NotServed("it is no file")
    return path


def _load(path: str, map_location: Any) -> Any:
    native = _native.Checkpoint.open([path], _request.open_request())
    (found,) = native.formats()
    if found not in ("torch zip", "torch legacy"):
        raise NotServed(f"its format is {found}")
    locations, unseen = native.storages()
    if unseen:
        raise NotServed(f"no tensor looks at {unseen} bytes of its storages")
    device = _device(map_location, locations)
    tensors: dict[str, _torch.Tensor] = {}
    if device == "meta":
        tensors = _meta_tensors(native.entries())
    elif len(native):
        native.rebuild({name: name for name in native.keys()}, _rebuild.TorchCheck())
        request = _request.request(None, [device], **_request.as_stored())
        dtypes = _dtypes.torch_dtypes()
        if any(row[1].startswith("Q") for row in native.entries()):
            raise NotServed("it holds quantized tensors")
        Report(*native.load(tensors, request, "torch", dtypes)).log(path)
    return native.rebuild(tensors, _rebuild.TorchMaker())


def _device(map_location: Any, locations: list[str]) -> str:
    """The one device of all tensors."""
    match map_location:
        case None:
            wanted = set(locations)
        case str() | _torch.device():
            wanted = {str(map_location)}
        case dict():
            wanted = {str(map_location.get(location, location)) for location in locations}
        case _:
            raise NotServed("map_location is a callable")
    wanted = wanted or {"cpu"}
    if len(wanted) > 1:
        raise NotServed(f"its tensors go to several devices: {sorted(wanted)}")
    (device,) = wanted
    if device == "meta":
        return device
    if device.startswith("cuda") and not _torch.cuda.is_available():
        raise NotServed("there is no GPU, which the original tells best")
    if device != "cpu" and not device.startswith("cuda"):
        raise NotServed(f"tensorlift does not load to {device or 'an unknown device'}")
    return _request.device_name(device)


def _meta_tensors(rows: list[tuple[Any, ...]]) -> dict[str, _torch.Tensor]:
    """Tensors without bytes, sharing storages as the file says."""
    dtypes = _dtypes.torch_dtypes()
    ranges: dict[int, tuple[int, int]] = {}
    for row in rows:
        start, end = ranges.get(row[9], (row[6], row[7]))
        ranges[row[9]] = (min(start, row[6]), max(end, row[7]))
    storages = {
        record: _torch.UntypedStorage(end - start, device="meta")  # type: ignore[no-untyped-call]
        for record, (start, end) in ranges.items()
    }
    tensors = {}
    for name, dtype, shape, strides, _, _, start, _, _, record in rows:
        empty = _torch.empty(0, dtype=dtypes[dtype], device="meta")
        offset = (start - ranges[record][0]) // empty.element_size()
        whole = _torch.empty(shape, device="meta").stride() if strides is None else strides
        tensors[name] = empty.set_(storages[record], offset, shape, whole)
    return tensors


def _name(f: Any) -> str:
    return os.fspath(f) if isinstance(f, (str, os.PathLike)) else type(f).__name__
