"""A service's embeddings wrapper: what loading a model looks like with tensorlift.

    python embeddings_wrapper.py MODEL_FOLDER "a text" "another text"
    python embeddings_wrapper.py MODEL_FOLDER --metrics

Configuration, tokenizer and weights are read side by side. The model is made without memory for
its weights, so nothing is initialised only to be overwritten, and its parameters are the loaded
memory. safetensors files are preferred; what was passed over, or fallen back to, is reported.
Each step has a switch, in the environment too, and the metrics say what it was worth.

Importing transformers takes longer than loading a small model, and it imports a model's modules
only when they are asked for. So imports are a step of their own, before the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("embeddings")

#: transformers alone, transformers through tensorlift, tensorlift into an empty model.
LOADERS = ("plain", "patched", "native")


@dataclass(frozen=True)
class Switches:
    """How models are loaded; `EMBEDDINGS_…` in the environment sets each."""

    #: One of `LOADERS`.
    loader: str = "native"
    #: The dtype of the weights; that of the file without one.
    dtype: str | None = None
    #: Where the model runs.
    device: str = "cpu"
    #: Whether another format is tried when the preferred one cannot be loaded.
    fallback: bool = True

    @classmethod
    def from_environment(cls) -> Switches:
        """The switches that are set; unknown values are refused where they are used."""
        found: dict[str, Any] = {}
        for name in ("loader", "dtype", "device"):
            if value := os.environ.get(f"EMBEDDINGS_{name.upper()}"):
                found[name] = value
        if value := os.environ.get("EMBEDDINGS_FALLBACK"):
            found["fallback"] = value not in ("0", "false", "no")
        return cls(**found)


@dataclass
class Memory:
    """What this process has in memory, in bytes."""

    #: Memory of its own: what was read into it, and what was computed.
    anonymous_bytes: int
    #: Pages of mapped files that were touched: libraries, and weights that are not copied.
    file_bytes: int
    #: The most that both together took so far.
    peak_bytes: int

    @classmethod
    def now(cls) -> Memory:
        """As the kernel counts it; zeros where there is no /proc."""
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.exists() else []
        found = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
        return cls(*(int(found.get(name, 0)) << 10 for name in ("RssAnon", "RssFile", "VmHWM")))


@dataclass
class Metrics:
    """What loading took, in seconds and bytes."""

    loader: str
    #: Modules of Python that every later step needs.
    imports_seconds: float = 0.0
    config_seconds: float = 0.0
    tokenizer_seconds: float = 0.0
    #: Making the empty model, and reading its weights; `from_pretrained` does both in one step.
    empty_model_seconds: float | None = None
    weights_seconds: float | None = None
    #: From the configuration to a model with its weights.
    model_seconds: float = 0.0
    #: All but the imports. Steps run side by side, so this is less than their sum.
    ready_seconds: float = 0.0
    weights_bytes: int = 0
    #: Modules that a later step imported nevertheless.
    late_imports: int = 0
    #: Memory once all is imported, and once the model is ready.
    imported: Memory = field(default_factory=Memory.now)
    ready: Memory = field(default_factory=Memory.now)
    #: Files that were tried and not used, each with the reason.
    passed_over: list[str] = field(default_factory=list)


class Embeddings:
    """Turns texts into normalised vectors: mean pooling over the last hidden state."""

    def __init__(self, folder: Path, switches: Switches) -> None:
        self.metrics = Metrics(switches.loader)
        self._timed("imports_seconds", _import, folder, switches.loader)
        self.metrics.imported, modules = Memory.now(), len(sys.modules)
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            tokenizer = pool.submit(self._timed, "tokenizer_seconds", _tokenizer, folder)
            load = self._native if switches.loader == "native" else self._transformers
            self.model = self._timed("model_seconds", load, folder, switches, pool)
            self.tokenizer = tokenizer.result()
        self.model.eval()
        self.metrics.ready_seconds = time.perf_counter() - started
        self.metrics.ready = Memory.now()
        self.metrics.late_imports = len(sys.modules) - modules
        log.info("loaded: %s", self.metrics)

    def embed(self, texts: list[str]) -> Any:
        """A row for each text."""
        import torch

        batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        batch = batch.to(self.model.device)
        with torch.no_grad():
            hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1)

    def _native(self, folder: Path, switches: Switches, pool: ThreadPoolExecutor) -> Any:
        """Weights and configuration at once, and a model whose parameters are the weights."""
        weights = pool.submit(self._timed, "weights_seconds", self._weights, folder, switches)
        config = self._timed("config_seconds", _config, folder)
        model = self._timed("empty_model_seconds", _empty_model, config)
        tensors = weights.result()
        prefix = f"{model.base_model_prefix}."
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
        _complete(model, missing, switches.device)
        if unexpected:
            log.info("not used by the model: %s", unexpected)
        return model

    def _weights(self, folder: Path, switches: Switches) -> dict[str, Any]:
        """The weights, from the format that is preferred and can be loaded."""
        import tensorlift

        errors = []
        for path in _candidates(folder):
            try:
                tensors = tensorlift.open(path).load(
                    switches.device, dtype=switches.dtype, framework="torch"
                )
            except tensorlift.Error as error:
                if not switches.fallback:
                    raise
                log.warning("falling back: %s", error)
                self.metrics.passed_over.append(str(error))
                errors.append(error)
                continue
            self.metrics.weights_bytes = tensors.report["bytes_wanted"]
            log.info("weights: %s", tensors.report)
            return tensors
        raise errors[0] if errors else FileNotFoundError(f"no weights in {folder}")

    def _transformers(self, folder: Path, switches: Switches, _: ThreadPoolExecutor) -> Any:
        """The usual way, through tensorlift or not."""
        from transformers import AutoModel

        config = self._timed("config_seconds", _config, folder)

        def load() -> Any:
            dtype = switches.dtype or "auto"
            model = AutoModel.from_pretrained(folder, config=config, dtype=dtype)
            return model.to(switches.device)

        if switches.loader == "plain":
            return load()
        import tensorlift

        with tensorlift.patch() as patched:
            model = load()
        log.info("%r", patched)
        return model

    def _timed(self, name: str, call: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            setattr(self.metrics, name, time.perf_counter() - started)


def _candidates(folder: Path) -> list[Path]:
    """safetensors before PyTorch's own format; an index before the files that it lists."""
    names = [
        "model.safetensors.index.json",
        "model.safetensors",
        "pytorch_model.bin.index.json",
        "pytorch_model.bin",
    ]
    return [folder / name for name in names if (folder / name).exists()]


def _import(folder: Path, loader: str) -> None:
    """Imports all modules that the later steps need, those of the model and its tokenizer too."""
    if loader not in LOADERS:
        raise ValueError(f"EMBEDDINGS_LOADER={loader} (expected one of {', '.join(LOADERS)})")
    import torch  # noqa: F401
    from transformers import CONFIG_MAPPING, MODEL_MAPPING, TOKENIZER_MAPPING

    if loader != "plain":
        import tensorlift  # noqa: F401
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    # Looking a class up imports its module.
    MODEL_MAPPING[CONFIG_MAPPING[kind]]
    TOKENIZER_MAPPING[CONFIG_MAPPING[kind]]


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _empty_model(config: Any) -> Any:
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        return AutoModel.from_config(config)


def _complete(model: Any, missing: list[str], device: str) -> None:
    """Makes what no file holds: buffers that the model computes. Weights must be there."""
    import torch

    parameters = {name for name, _ in model.named_parameters()}
    if lost := sorted(parameters & set(missing)):
        raise KeyError(f"the checkpoint lacks {lost}")
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is None or not buffer.is_meta:
                continue
            if name == "position_ids":
                value = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            elif name == "token_type_ids":
                value = torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)
            else:
                raise KeyError(f"nobody knows what the buffer {name} holds")
            module._buffers[name] = value.clone()


def measure(folder: Path) -> dict[str, Any]:
    """The metrics, and what the first text takes: it reads weights that are only mapped."""
    embeddings = Embeddings(folder, Switches.from_environment())
    started = time.perf_counter()
    embeddings.embed(["a text"])
    seconds = time.perf_counter() - started
    text = {"text_seconds": seconds, "text": asdict(Memory.now())}
    return asdict(embeddings.metrics) | text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--json", action="store_true", help="embeddings as JSON")
    parser.add_argument("--metrics", action="store_true", help="what loading took, as JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=os.environ.get("LOGLEVEL", "WARNING"))
    if arguments.metrics:
        print(json.dumps(measure(arguments.folder)))
        return
    embeddings = Embeddings(arguments.folder, Switches.from_environment())
    vectors = embeddings.embed(arguments.texts)
    if arguments.json:
        rows = zip(arguments.texts, vectors.tolist(), strict=True)
        print(json.dumps([{"text": text, "embedding": row} for text, row in rows]))
        return
    for text, row in zip(arguments.texts, (vectors @ vectors.T).tolist(), strict=True):
        print(" ".join(f"{value:6.3f}" for value in row), text)


if __name__ == "__main__":
    main()
