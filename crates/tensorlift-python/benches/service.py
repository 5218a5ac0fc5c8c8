"""What examples/embeddings_wrapper.py takes: plain transformers, patched, native.

python service.py MODEL_FOLDER [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVICE = Path(__file__).resolve().parents[1] / "examples/embeddings_wrapper.py"
LOADERS = ("plain", "patched", "native")
KINDS = ("anonymous", "file", "peak")
MOMENTS = ("ready", "text")
STEPS = ("imports", "config", "tokenizer", "empty_model", "weights", "model", "ready", "text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {loader: [] for loader in LOADERS}
    # Each in a process of its own, alternating, so that all meet the same machine.
    for _ in range(arguments.rounds):
        for loader, results in found.items():
            results.append(run(arguments.folder, loader))

    print(f"Seconds, median of {arguments.rounds} rounds (fastest to slowest):\n")
    row("loader", *(step.replace("_", " ") for step in STEPS))
    row(*["---"] * (1 + len(STEPS)))
    for loader, results in found.items():
        row(loader, *(seconds([one[f"{step}_seconds"] for one in results]) for step in STEPS))
    print("\nMB more than after the imports, median:\n")
    row("loader", *(f"{kind}, {when}" for when in MOMENTS for kind in KINDS))
    row(*["---"] * (1 + len(MOMENTS) * len(KINDS)))
    for loader, results in found.items():
        row(loader, *(megabytes(results, when, kind) for when in MOMENTS for kind in KINDS))
    late = max(one["late_imports"] for results in found.values() for one in results)
    print(f"\nModules imported after the imports: at most {late}.")


def run(folder: Path, loader: str) -> dict[str, Any]:
    command = [sys.executable, str(SERVICE), str(folder), "--metrics"]
    environment = {**os.environ, "EMBEDDINGS_LOADER": loader}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    metrics: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return metrics


def row(*cells: str) -> None:
    print("|", " | ".join(cells), "|")


def seconds(values: list[float | None]) -> str:
    """Nothing where a loader has no such step."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{statistics.median(known):.3f} ({min(known):.3f} to {max(known):.3f})"


def megabytes(results: list[dict[str, Any]], when: str, kind: str) -> str:
    kind = f"{kind}_bytes"
    added = [one[when][kind] - one["imported"][kind] for one in results]
    return f"{statistics.median(added) / 1e6:.0f}"


if __name__ == "__main__":
    main()
