"""Tensors of a checkpoint that are read when their values are needed, and no more of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map_only

from . import _checkpoint, _dtypes, _request

log = logging.getLogger("tensorlift")


class _Part(NamedTuple):
    """Which part of which tensor."""

    checkpoint: _checkpoint.Checkpoint
    name: str
    device: str
    #: The first index and the end, in each dimension of the tensor in the file.
    ranges: tuple[tuple[int, int], ...]
    #: The dimensions that are left: an index takes one away.
    dims: tuple[int, ...]

    def shape(self) -> list[int]:
        return [self.ranges[dim][1] - self.ranges[dim][0] for dim in self.dims]

    def cut(self, dim: int, start: int, stop: int) -> _Part:
        ranges = list(self.ranges)
        first = ranges[self.dims[dim]][0]
        ranges[self.dims[dim]] = (first + start, first + stop)
        return self._replace(ranges=tuple(ranges))

    def without(self, dim: int) -> _Part:
        return self._replace(dims=self.dims[:dim] + self.dims[dim + 1 :])

    def read(self) -> torch.Tensor:
        cuts = [(dim, start, stop) for dim, (start, stop) in enumerate(self.ranges)]
        native = self.checkpoint._native.part(self.name, cuts)
        request = _request.request(None, [self.device], **_request.as_stored())
        found: dict[str, torch.Tensor] = {}
        _, line = native.load(found, request, "torch", _dtypes.torch_dtypes())
        log.debug("%s: %s", self.name, line)
        return found[self.name].reshape(self.shape())


class Share(torch.Tensor):
    """A tensor of a checkpoint, or a part of one: its bytes are read by the first operation that
    needs them. Slices, indices and splits make further parts and read nothing.
    """

    _part: _Part
    _value: torch.Tensor | None

    @classmethod
    def of(cls, checkpoint: _checkpoint.Checkpoint, name: str, device: str) -> Share:
        """A whole tensor of a checkpoint."""
        entry = checkpoint.entry(name)
        ranges = tuple((0, size) for size in entry.shape)
        part = _Part(checkpoint, name, device, ranges, tuple(range(len(ranges))))
        return cls._make(part, _dtypes.torch_dtypes()[entry.dtype])

    @classmethod
    def _make(cls, part: _Part, dtype: torch.dtype) -> Share:
        share: Share = torch.Tensor._make_wrapper_subclass(
            cls, part.shape(), dtype=dtype, device=torch.device(part.device)
        )
        share._part = part
        share._value = None
        return share

    def read(self) -> torch.Tensor:
        """The tensor itself, read once."""
        if self._value is None:
            self._value = self._part.read()
        return self._value

    def numpy(self, *, force: bool = False) -> Any:
        return self.read().numpy(force=force)

    def tolist(self) -> Any:
        return self.read().tolist()

    def data_ptr(self) -> int:
        return self.read().data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.read().untyped_storage()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"<tensorlift share of {self._part.name!r}, shape {list(self.shape)}>"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        part = _PARTS.get(function)
        if part is not None and args[0]._value is None:
            found = part(*args, **kwargs)
            if found is not None:
                return found
        args, kwargs = tree_map_only(Share, Share.read, (args, kwargs))
        return function(*args, **kwargs)


def _same(share: Share) -> Share:
    return Share._make(share._part, share.dtype)


def _slice(
    share: Share, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Share | None:
    if step != 1:
        return None
    dim %= share.dim()
    taken = range(share.shape[dim])[start:end]
    return Share._make(share._part.cut(dim, taken.start, taken.start + len(taken)), share.dtype)


def _select(share: Share, dim: int, index: int) -> Share:
    dim %= share.dim()
    index = range(share.shape[dim])[index]
    return Share._make(share._part.cut(dim, index, index + 1).without(dim), share.dtype)


def _split(share: Share, size: int, dim: int = 0) -> list[Share]:
    dim %= share.dim()
    length = share.shape[dim]
    starts = range(0, max(length, 1), max(size, 1))
    parts = [share._part.cut(dim, start, min(start + size, length)) for start in starts]
    return [Share._make(part, share.dtype) for part in parts]


#: What takes parts of tensors without their values.
_PARTS: dict[Any, Callable[..., Share | list[Share] | None]] = {
    torch.ops.aten.alias.default: _same,
    torch.ops.aten.detach.default: _same,
    torch.ops.aten.select.int: _select,
    torch.ops.aten.slice.Tensor: _slice,
    torch.ops.aten.split.Tensor: _split,
}
