"""A model loader for vLLM: `--load-format tensorlift`.

vLLM finds it by the entry point `vllm.general_plugins`; nothing needs to be imported.
Options go into `--model-loader-extra-config`, a JSON object with these keys:

- `device`: where weights are loaded to before the model takes them, `cpu` without it. A GPU's
  name loads straight to that GPU.
- `window_bytes`: how much is loaded at once, 1 GiB without it; a model that takes weights one by
  one needs no more memory than that beside its own.
- `shares`: whether a weight is read only once the model copies it or a part of it, so that each
  rank reads its own shares and no layer of another rank's; `true` without it where there are
  several ranks, `false` otherwise, since large reads are faster.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

from . import _checkpoint, _request

log = logging.getLogger("tensorlift")

#: The name for `--load-format`.
LOAD_FORMAT = "tensorlift"
#: What is fetched of a model that is not on this machine.
_PATTERNS = ["*.safetensors", "*.bin", "*.pt"]
_OPTIONS = {"device", "shares", "window_bytes"}
_WINDOW_BYTES = 1 << 30


def register() -> None:
    """Makes the loader known to vLLM; called by vLLM."""
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    register_model_loader(LOAD_FORMAT)(make_loader(BaseModelLoader))


def make_loader(base: type) -> type:
    """The loader, derived from vLLM's base class."""

    class TensorliftModelLoader(base):  # type: ignore[misc]
        """Yields the weights of a checkpoint in file order; reads each byte once."""

        def __init__(self, load_config: Any) -> None:
            super().__init__(load_config)
            extra = getattr(load_config, "model_loader_extra_config", None) or {}
            unknown = set(extra) - _OPTIONS
            if unknown:
                raise ValueError(
                    f"unknown keys in model_loader_extra_config: {sorted(unknown)}; "
                    f"tensorlift knows {sorted(_OPTIONS)}"
                )
            self._device = extra.get("device", "cpu")
            self._window_bytes = int(extra.get("window_bytes", _WINDOW_BYTES))
            self._shares = extra.get("shares")

        def download_model(self, model_config: Any) -> None:
            _folder(self.load_config, model_config.model, model_config.revision)

        def load_weights(self, model: Any, model_config: Any) -> None:
            model.load_weights(self._weights(model, model_config))

        def _weights(self, model: Any, model_config: Any) -> Iterator[tuple[str, Any]]:
            sources = [_Source(model_config.model, model_config.revision, "", None)]
            sources += [
                _Source(other.model_or_path, other.revision, other.prefix, other.subfolder)
                for other in getattr(model, "secondary_weights", ())
            ]
            is_unused = getattr(model, "is_unused_checkpoint_weight", None)
            patterns = getattr(model, "allow_patterns_overrides", None)
            for source in sources:
                folder = _folder(
                    self.load_config, source.model, source.revision, source.subfolder, patterns
                )
                for checkpoint in _open(folder, patterns):
                    names = [
                        name for name in checkpoint if is_unused is None or not is_unused(name)
                    ]
                    for name, tensor in self._each(checkpoint, names):
                        yield source.prefix + name, tensor

        def _each(
            self, checkpoint: _checkpoint.Checkpoint, names: list[str]
        ) -> Iterator[tuple[str, Any]]:
            if not (_ranks() > 1 if self._shares is None else self._shares):
                yield from checkpoint.load_each(
                    self._device,
                    framework="torch",
                    select=names,
                    window_bytes=self._window_bytes,
                )
                return
            from ._share import Share

            device = _request.device_name(self._device)
            for name in names:
                yield name, Share.of(checkpoint, name, device)

    return TensorliftModelLoader


def _ranks() -> int:
    """How many ranks divide the model's tensors or layers between them."""
    from vllm.distributed import get_pp_group, get_tensor_model_parallel_world_size

    try:
        return int(get_tensor_model_parallel_world_size() * get_pp_group().world_size)
    except AssertionError:
        # vLLM's own way to say that nothing is distributed.
        return 1


class _Source:
    """Where some of a model's weights come from."""

    def __init__(
        self, model: str, revision: str | None, prefix: str, subfolder: str | None
    ) -> None:
        self.model = model
        self.revision = revision
        self.prefix = prefix
        self.subfolder = subfolder


def _folder(
    load_config: Any,
    model: str,
    revision: str | None,
    subfolder: str | None = None,
    patterns: list[str] | None = None,
) -> str:
    """The folder with a model's weights, fetched by vLLM's own means if it is not here."""
    folder = model
    if not os.path.isdir(model):
        from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

        folder = download_weights_from_hf(
            model,
            load_config.download_dir,
            patterns or _PATTERNS,
            revision,
            ignore_patterns=getattr(load_config, "ignore_patterns", None),
        )
    return os.path.join(folder, subfolder) if subfolder else folder


def _open(folder: str, patterns: list[str] | None) -> Iterable[_checkpoint.Checkpoint]:
    """The checkpoint in a folder, or the files that a model asks for by pattern."""
    if not patterns:
        return [_checkpoint.open(folder)]
    for pattern in patterns:
        files = sorted(glob.glob(os.path.join(folder, pattern)))
        if files:
            return [_checkpoint.open(file) for file in files]
    raise FileNotFoundError(f"{folder}: no file matches {patterns}")
