"""Fills models that are there: `Checkpoint.load_into`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, MutableMapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from . import _dtypes
from ._errors import MisuseError, NotFoundError
from ._results import Entry, Filled

if TYPE_CHECKING:
    from ._checkpoint import Checkpoint
    from ._progress import Progress

#: Names that an error lists.
_LISTED = 10


def fill(
    checkpoint: Checkpoint,
    target: Any,
    strict: bool,
    asked: Callable[[list[str]], dict[str, Any]],
    progress: Progress,
) -> Filled:
    """Loads what the target has, by name, into the target; `asked` makes the request for names."""
    slots = _slots(target)
    wanted = [name for name in checkpoint if name in slots]
    missing = [name for name in slots if name not in checkpoint]
    unexpected = [name for name in checkpoint if name not in slots]
    _check(checkpoint, slots, wanted)
    if strict and (missing or unexpected):
        raise NotFoundError(
            f"missing from the checkpoint: {missing[:_LISTED]}; "
            f"not expected by the model: {unexpected[:_LISTED]}"
        )
    request = asked(wanted)
    dtypes = {name: checkpoint.entry(name).dtype for name in wanted}
    request["dtype_of"] = _conversions(slots, dtypes)
    memory = _memory(slots, {**dtypes, **request["dtype_of"]})
    if memory is not None:
        report = checkpoint._load_into(request, memory, progress)
        return Filled(wanted, missing, unexpected, report)
    framework = "numpy" if all(_is_numpy(slots[name]) for name in wanted) else "torch"
    tensors = checkpoint._load(request, framework, progress)
    report = tensors.report
    for name in wanted:
        # Each goes as soon as it is in place, and its memory with it.
        _put(target, name, slots[name], tensors.pop(name))
    return Filled(wanted, missing, unexpected, report)


def _slots(target: Any) -> dict[str, Any]:
    if isinstance(target, MutableMapping):
        return dict(target)
    if hasattr(target, "state_dict"):
        found = target.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in found.items() if hasattr(tensor, "shape")}
    raise MisuseError(
        f"expected a torch.nn.Module or a dict of tensors, found {type(target).__name__}"
    )


def _check(checkpoint: Checkpoint, slots: dict[str, Any], names: list[str]) -> None:
    """Refuses what does not fit, before a byte is written."""
    found = ((name, _difference(slots[name], checkpoint.entry(name))) for name in names)
    wrong = [(name, why) for name, why in found if why]
    if wrong:
        listed = "; ".join(f"{name}: {why}" for name, why in wrong[:_LISTED])
        more = f" and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise MisuseError(
            f"the checkpoint does not fit, and nothing was written: {listed}{more}",
            path=checkpoint.files[0] if checkpoint.files else None,
            tensor=wrong[0][0],
        )


def _difference(slot: Any, entry: Entry) -> str | None:
    """Why a slot cannot take a tensor, if it cannot."""
    if not hasattr(slot, "shape"):
        return f"expected a tensor or an array, found {type(slot).__name__}"
    if tuple(slot.shape) != entry.shape:
        return f"the model has {list(slot.shape)}, the checkpoint {list(entry.shape)}"
    if _is_numpy(slot) and not slot.flags.writeable:
        return "the array is read-only"
    with contextlib.suppress(MisuseError):
        if _rank(entry.dtype) > _rank(_dtypes.name_of(slot.dtype)):
            return f"the model has {slot.dtype}, the checkpoint {entry.dtype}"
    return None


def _rank(dtype: str) -> int:
    """Integers, floats, complex numbers: none is read as one of a lower rank, which would lose what
    it is.
    """
    return 2 if dtype.lstrip("B").startswith("C") else int(dtype.startswith(("F", "BF")))


def _conversions(slots: dict[str, Any], dtypes: dict[str, str]) -> dict[str, str]:
    """The dtypes of floats that are read as another one than the file's."""
    found = {}
    for name, dtype in dtypes.items():
        if dtype in _dtypes.FLOATS:
            with contextlib.suppress(MisuseError):
                wanted = _dtypes.name_of(slots[name].dtype)
                if wanted != dtype and wanted in _dtypes.FLOATS:
                    found[name] = wanted
    return found


def _memory(slots: dict[str, Any], dtypes: dict[str, str]) -> list[tuple[str, Any]] | None:
    """The bytes of each slot, if all can be read into as they are."""
    found = []
    places = []
    for name, dtype in dtypes.items():
        view = _bytes_of(slots[name], dtype)
        if view is None:
            return None
        found.append((name, view))
        if view.nbytes:
            places.append((view.ctypes.data, view.nbytes))
    places.sort()
    apart = all(one + length <= other for (one, length), (other, _) in pairwise(places))
    return found if apart else None


def _bytes_of(slot: Any, dtype: str) -> Any:
    """A slot's memory as bytes, if it is the host's, without gaps, and of this dtype."""
    if _is_numpy(slot):
        fits = slot.flags.c_contiguous and slot.flags.writeable
        if not fits or slot.dtype != _dtypes.numpy_dtypes().get(dtype):
            return None
        import numpy

        return slot.reshape(-1).view(numpy.uint8)
    import torch

    fits = slot.device.type == "cpu" and slot.is_contiguous() and slot.layout == torch.strided
    if not fits or slot.dtype != _dtypes.torch_dtypes().get(dtype) or dtype.startswith("Q"):
        return None
    return slot.detach().view(-1).view(torch.uint8).numpy()


def _is_numpy(slot: Any) -> bool:
    return type(slot).__module__.partition(".")[0] == "numpy"


def _put(target: Any, name: str, slot: Any, tensor: Any) -> None:
    if _is_numpy(slot):
        slot[...] = tensor
        return
    import torch

    with torch.no_grad():
        if not slot.is_meta:
            slot.copy_(tensor)
            return
        fresh = tensor.to(slot.dtype)
        if isinstance(slot, torch.nn.Parameter):
            fresh = torch.nn.Parameter(fresh, slot.requires_grad)
    if isinstance(target, MutableMapping):
        target[name] = fresh
        return
    _replace(target, slot, fresh)


def _replace(module: Any, slot: Any, fresh: Any) -> None:
    """Puts a tensor in every place of a module where the one on `meta` is: tied ones stay tied."""
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for key, value in table.items():
                if value is slot:
                    table[key] = fresh
