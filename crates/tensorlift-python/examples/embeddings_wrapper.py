"""A service's embeddings wrapper: what loading a model looks like with tensorlift.

    python embeddings_wrapper.py MODEL_FOLDER "a text" "another text"
    python embeddings_wrapper.py MODEL_FOLDER --bench

Configuration, tokenizer and weights are read side by side. The model is made without memory for
its weights, so nothing is initialised only to be overwritten, and its parameters are the loaded
memory. safetensors files are preferred; what was passed over, or fallen back to, is reported.
Each step has a switch, in the environment too, and the metrics say what it was worth.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tensorlift

log = logging.getLogger("embeddings")


@dataclass(frozen=True)
class Switches:
    """How models are loaded; `EMBEDDINGS_…` in the environment sets each."""

    #: `native` (tensorlift fills an empty model), `patched` (transformers loads through
    #: tensorlift), or `plain` (transformers alone).
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
class Metrics:
    """What loading took, in seconds and bytes."""

    loader: str
    seconds: float = 0.0
    weights_seconds: float = 0.0
    tokenizer_seconds: float = 0.0
    config_seconds: float = 0.0
    weights_bytes: int = 0
    peak_bytes: int = 0
    #: Files that were tried and not used, each with the reason.
    passed_over: list[str] = field(default_factory=list)


class Embeddings:
    """Turns texts into normalised vectors: mean pooling over the last hidden state."""

    def __init__(self, folder: Path, switches: Switches) -> None:
        started = time.perf_counter()
        self.metrics = Metrics(switches.loader)
        with ThreadPoolExecutor(2) as pool:
            tokenizer = pool.submit(self._timed, "tokenizer_seconds", _tokenizer, folder)
            if switches.loader == "native":
                self.model = self._native(folder, switches, pool)
            else:
                self.model = self._transformers(folder, switches)
            self.tokenizer = tokenizer.result()
        self.model.eval()
        self.metrics.seconds = time.perf_counter() - started
        self.metrics.peak_bytes = _peak_bytes()
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
        import torch
        from transformers import AutoModel

        with torch.device("meta"):
            model = AutoModel.from_config(config)
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

    def _transformers(self, folder: Path, switches: Switches) -> Any:
        """The usual way, through tensorlift or not."""
        from transformers import AutoModel

        def load() -> Any:
            dtype = switches.dtype or "auto"
            return AutoModel.from_pretrained(folder, dtype=dtype).to(switches.device)

        if switches.loader == "plain":
            return self._timed("weights_seconds", load)
        if switches.loader != "patched":
            raise ValueError(f"EMBEDDINGS_LOADER: native, patched or plain, not {switches.loader}")
        with tensorlift.patch() as patched:
            model = self._timed("weights_seconds", load)
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


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _complete(model: Any, missing: list[str], device: str) -> None:
    """Makes what no file holds: buffers that the model computes, and a warning for
    weights."""
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


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def bench(folder: Path, rounds: int) -> None:
    """Each loader in processes of its own, alternating, so that all meet the same machine."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("plain", "patched", "native")}
    for _ in range(rounds):
        for name, results in found.items():
            command = [sys.executable, __file__, str(folder), "--metrics"]
            environment = {**os.environ, "EMBEDDINGS_LOADER": name}
            output = subprocess.run(command, env=environment, capture_output=True, check=True)
            results.append(json.loads(output.stdout.splitlines()[-1]))
    print("| loader | seconds | weights, seconds | peak MB |")
    print("| --- | --- | --- | --- |")
    for name, results in found.items():
        seconds = sorted(result["seconds"] for result in results)
        weights = sorted(result["weights_seconds"] for result in results)
        peak = sorted(result["peak_bytes"] for result in results)
        middle = rounds // 2
        print(
            f"| {name} | {seconds[middle]:.3f} ({seconds[0]:.3f} to {seconds[-1]:.3f}) "
            f"| {weights[middle]:.3f} ({weights[0]:.3f} to {weights[-1]:.3f}) "
            f"| {peak[middle] / 1e6:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--json", action="store_true", help="embeddings as JSON")
    parser.add_argument("--metrics", action="store_true", help="what loading took, as JSON")
    parser.add_argument("--bench", action="store_true", help="all loaders side by side")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.basicConfig(level=os.environ.get("LOGLEVEL", "WARNING"))
    if arguments.bench:
        bench(arguments.folder, arguments.rounds)
        return
    # Imported before the clock runs: every loader needs both.
    import torch  # noqa: F401
    import transformers  # noqa: F401

    embeddings = Embeddings(arguments.folder, Switches.from_environment())
    if arguments.metrics:
        print(json.dumps(asdict(embeddings.metrics)))
        return
    vectors = embeddings.embed(arguments.texts)
    if arguments.json:
        rows = zip(arguments.texts, vectors.tolist(), strict=True)
        print(json.dumps([{"text": text, "embedding": row} for text, row in rows]))
        return
    for text, row in zip(arguments.texts, (vectors @ vectors.T).tolist(), strict=True):
        print(" ".join(f"{value:6.3f}" for value in row), text)


if __name__ == "__main__":
    main()
