"""Replaces `safetensors.torch`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from .. import _original
from . import _open
from ._save import TensorSpec, serialize, serialize_file
from .numpy import load_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load", "load_file", "load_model", "save", "save_file", "save_model"]


def __getattr__(name: str) -> Any:
    # Helpers that neither load nor save: `storage_ptr`, `_find_shared_tensors` and others.
    if name.startswith("__"):
        raise AttributeError(name)
    return _original.attribute("torch", name)


def load_file(
    filename: str | os.PathLike[str], device: Any = "cpu", *, backend: str = "mmap"
) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, on a device."""
    with _open.safe_open(filename, framework="pt", device=device, backend=backend) as file:
        return file.get_tensors()


def load(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file."""
    return load_bytes(data, "torch")


def save(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file with these tensors."""
    specs, _kept = _specs(tensors)
    return serialize(specs, metadata=metadata)


def save_file(
    tensors: dict[str, torch.Tensor],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes a safetensors file with these tensors."""
    specs, _kept = _specs(tensors)
    serialize_file(specs, filename, metadata=metadata)


def save_model(
    model: torch.nn.Module,
    filename: str,
    metadata: dict[str, str] | None = None,
    force_contiguous: bool = True,
) -> None:
    """Writes a model's state dict; of names that share memory, one is written.

    The metadata says which name is an alias of which.
    """
    state = model.state_dict()
    metadata = None if metadata is None else dict(metadata)
    doubles = _original.attribute("torch", "_remove_duplicate_names")(state)
    for kept, removed in doubles.items():
        for name in removed:
            metadata = {} if metadata is None else metadata
            metadata.setdefault(name, kept)
            del state[name]
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    try:
        save_file(state, filename, metadata=metadata)
    except ValueError as error:
        hint = (
            " Or use save_model(..., force_contiguous=True), read the docs for potential caveats."
        )
        raise ValueError(f"{error}{hint}") from error


def load_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Any = "cpu",
    *,
    backend: str = "mmap",
) -> tuple[list[str], list[str]]:
    """Loads a file into a model; returns the names that are missing and those not expected."""
    state = load_file(filename, device=device, backend=backend)
    remove = _original.attribute("torch", "_remove_duplicate_names")
    doubles = remove(model.state_dict(), preferred_names=state.keys())
    missing_names, unexpected = model.load_state_dict(state, strict=False)
    missing = set(missing_names)
    for removed in doubles.values():
        for name in removed:
            if name in missing:
                missing.remove(name)
            else:
                unexpected.append(name)
    if strict and (missing or unexpected):
        raise RuntimeError(_mismatch(model, sorted(missing), sorted(unexpected)))
    return missing, unexpected  # type: ignore[return-value]


def _mismatch(model: torch.nn.Module, missing: list[str], unexpected: list[str]) -> str:
    lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
    for what, names in (("Missing", missing), ("Unexpected", unexpected)):
        if names:
            listed = ", ".join(f'"{name}"' for name in names)
            lines.append(f"    {what} key(s) in state_dict: {listed}")
    return "\n".join(lines)


def _specs(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, TensorSpec], list[torch.Tensor]]:
    """What to write, and the tensors that must live until it is written."""
    _check(tensors)
    specs: dict[str, TensorSpec] = {}
    kept: list[torch.Tensor] = []
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(
                f"tensor `{name}` is not contiguous, and a file holds no strides; "
                "call `.contiguous()` on it before saving."
            )
        tensor = tensor.detach().to("cpu")
        tensor = tensor.resolve_conj().resolve_neg()
        kept.append(tensor)
        specs[name] = TensorSpec(
            dtype=str(tensor.dtype).rpartition(".")[2],
            shape=tensor.shape,
            data_ptr=tensor.data_ptr(),
            data_len=tensor.numel() * tensor.element_size(),
        )
    return specs, kept


def _check(tensors: Any) -> None:
    """What the original refuses to write, in its words."""
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"Key `{name}` is invalid, expected torch.Tensor but received {type(tensor)}"
            )
    sparse = [name for name, tensor in tensors.items() if tensor.layout != torch.strided]
    if sparse:
        raise ValueError(
            f"You are trying to save a sparse tensors: `{sparse}` which this library does not "
            "support. You can make it a dense tensor before saving with `.to_dense()` but be "
            "aware this might make a much larger file than needed."
        )
    shared = _original.attribute("torch", "_find_shared_tensors")(tensors)
    failing = [names for names in shared if len(names) > 1]
    if failing:
        raise RuntimeError(
            f"Some tensors share memory, which a safetensors file cannot: {failing}. "
            "Use `save_model`, or copy them before saving."
        )
