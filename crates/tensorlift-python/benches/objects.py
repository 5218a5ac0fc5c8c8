"""Many small tensors, every object made: tensorlift beside safetensors' `load_file`.

    python objects.py [--tensors 20000] [--bytes 2048] [--rounds 15]

Both take turns in one process, each round begins with the other one, and ratios are taken within
a round. Objects of the round before are gone before the clock runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write(path: Path, tensors: int, size: int) -> None:
    """A file of that many tensors of that many bytes each."""
    header = {
        f"layers.{number}.weight": {
            "dtype": "F32",
            "shape": [size // 4],
            "data_offsets": [number * size, (number + 1) * size],
        }
        for number in range(tensors)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number in range(tensors):
            file.write(number.to_bytes(4, "little") * (size // 4))


def measure(load: Callable[[], dict[str, Any]]) -> tuple[float, float]:
    """Seconds on the wall, and of all processors."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    tensors = load()
    found = (time.perf_counter() - wall, time.process_time() - cpu)
    assert len(tensors) > 0
    return found


def compare(
    name: str, theirs: Callable[[], dict[str, Any]], ours: Callable[[], dict[str, Any]], rounds: int
) -> None:
    """One row of the table."""
    engines = {"theirs": theirs, "ours": ours}
    found: dict[str, list[tuple[float, float]]] = {"theirs": [], "ours": []}
    for load in (theirs, ours):
        measure(load)
    for number in range(rounds):
        for engine in sorted(engines, reverse=number % 2 == 1):
            found[engine].append(measure(engines[engine]))

    def cell(engine: str) -> str:
        wall, cpu = (statistics.median(part) for part in zip(*found[engine], strict=True))
        return f"{wall * 1e3:.1f} ms ({cpu * 1e3:.1f})"

    def ratio(which: int) -> str:
        pairs = zip(found["theirs"], found["ours"], strict=True)
        ratios = sorted(one[which] / other[which] for one, other in pairs)
        return f"{statistics.median(ratios):.1f} [{ratios[0]:.1f} .. {ratios[-1]:.1f}]"

    print(f"| {name} | {cell('theirs')} | {cell('ours')} | {ratio(0)} | {ratio(1)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()

    import safetensors.numpy
    import tensorlift

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.safetensors"
        write(path, arguments.tensors, arguments.bytes)
        print("| | `load_file`: wall (processors) | `tensorlift.load` | ratio, wall | processors |")
        print("| --- | --- | --- | --- | --- |")
        compare(
            "numpy",
            lambda: safetensors.numpy.load_file(path),
            lambda: dict(tensorlift.load(path)),
            arguments.rounds,
        )
        try:
            import safetensors.torch
        except ImportError:
            return
        compare(
            "torch",
            lambda: safetensors.torch.load_file(path),
            lambda: dict(tensorlift.load(path, framework="torch")),
            arguments.rounds,
        )


if __name__ == "__main__":
    main()
