"""Makes Python objects of what a PyTorch file holds beside plain data.

Nothing here looks a name of the file up: every class that is made is listed in this file.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

from ._errors import UnsupportedError


class TensorName(str):
    """A tensor in a checkpoint's state: its name in the checkpoint."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"TensorName({str.__repr__(self)})"


@dataclass
class Inert:
    """An object of a class that is no plain data: what the file says of it; nothing was run."""

    #: The dotted name of its class, or of the function that makes it.
    cls: str
    #: What the class or function gets.
    args: tuple[Any, ...] = ()
    #: What is set on it afterwards: usually one dict of attributes.
    states: list[Any] = field(default_factory=list)
    #: Items that are appended to it.
    items: list[Any] = field(default_factory=list)
    #: Keys and values that are set in it.
    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def __hash__(self) -> int:
        return id(self)


class PlainMaker:
    """Makes a state without torch: tensors are their names, other classes are inert data."""

    def mapping(self, cls: str) -> Any:
        made = _mapping(cls)
        return {} if made is None else made

    def collection(self, cls: str, items: list[Any]) -> Any:
        return frozenset(items) if cls.endswith(".frozenset") else set(items)

    def attributes(self, mapping: Any, attributes: Any) -> None:
        if hasattr(mapping, "__dict__") and isinstance(attributes, dict):
            vars(mapping).update(attributes)

    def name(self, module: str, name: str) -> Any:
        return Inert(f"{module}.{name}")

    def tensor(
        self, cls: str, tensor: Any, _count: int, _rest: list[Any], _states: list[Any], _grad: bool
    ) -> Any:
        return tensor

    def call(
        self,
        cls: str,
        args: tuple[Any, ...],
        states: list[Any],
        items: list[Any],
        pairs: list[tuple[Any, Any]],
    ) -> Any:
        match cls, args:
            case "torch.Size", (sizes,):
                return tuple(sizes)
            case "torch.device", _:
                return ":".join(str(part) for part in args)
            case (("builtins.complex" | "__builtin__.complex"), (real, imaginary)):
                return complex(real, imaginary)
            case (("builtins.bytearray" | "__builtin__.bytearray"), (bytes(data),)):
                return bytearray(data)
        encoded = _encoded(cls, args)
        return Inert(cls, args, states, items, pairs) if encoded is None else encoded


#: What makes tensors, and the most arguments that it is known with.
_TENSOR_ARGUMENTS = {
    "torch._utils._rebuild_parameter": 3,
    "torch._utils._rebuild_tensor_v2": 6,
    "torch._utils._rebuild_tensor_v3": 7,
}


class TorchCheck:
    """Makes what `torch.load(weights_only=True)` makes, with stand-ins for tensors, so that nothing
    is read of a file that is refused: `UnsupportedError` for what it does not make."""

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def mapping(self, cls: str) -> Any:
        made = _mapping(cls)
        if made is None:
            raise _refused(cls)
        return made

    def collection(self, cls: str, items: list[Any]) -> Any:
        if cls in ("builtins.set", "__builtin__.set"):
            return set(items)
        raise _refused(cls)

    def attributes(self, mapping: Any, attributes: Any) -> None:
        if type(mapping) is not collections.OrderedDict or not isinstance(attributes, dict):
            raise _refused("a dict with attributes")
        vars(mapping).update(attributes)

    def name(self, module: str, name: str) -> Any:
        torch = self.torch
        if module == "torch":
            found = getattr(torch, name, None)
            if isinstance(found, (torch.dtype, torch.layout, torch.memory_format)):
                return found
        raise _refused(f"{module}.{name}")

    def tensor(
        self, cls: str, tensor: Any, count: int, rest: list[Any], states: list[Any], grad: bool
    ) -> Any:
        if states:
            raise _refused("a tensor with attributes")
        if count > _TENSOR_ARGUMENTS.get(cls, 0):
            raise _refused(cls)
        return tensor

    def call(
        self,
        cls: str,
        args: tuple[Any, ...],
        states: list[Any],
        items: list[Any],
        pairs: list[tuple[Any, Any]],
    ) -> Any:
        if not (states or items or pairs):
            match cls, args:
                case "torch.Size", (sizes,):
                    return self.torch.Size(sizes)
                case "torch.device", _:
                    return self.torch.device(*args)
            encoded = _encoded(cls, args)
            if encoded is not None:
                return encoded
        raise _refused(cls)


class TorchMaker(TorchCheck):
    """Makes the same with tensors."""

    def tensor(
        self, cls: str, tensor: Any, count: int, rest: list[Any], states: list[Any], grad: bool
    ) -> Any:
        super().tensor(cls, tensor, count, rest, states, grad)
        if cls == "torch._utils._rebuild_parameter":
            return self.torch.nn.Parameter(tensor, bool(rest and rest[0]))
        if cls == "torch._utils._rebuild_tensor_v3" and rest != [tensor.dtype]:
            raise _refused(cls)
        return tensor.requires_grad_(grad)


def _mapping(cls: str) -> Any:
    """A dict of a class of the standard library's, or nothing."""
    match cls:
        case "collections.OrderedDict":
            return collections.OrderedDict()
        case "collections.Counter":
            return collections.Counter()
    return None


def _encoded(cls: str, args: tuple[Any, ...]) -> bytes | None:
    """The bytes that pickles before protocol 3 write as encoded text."""
    match cls, args:
        case "_codecs.encode", (str(text), "latin1" | "latin-1" as encoding):
            return text.encode(encoding)
    return None


def _refused(what: str) -> UnsupportedError:
    return UnsupportedError(f"tensorlift does not make {what}")
