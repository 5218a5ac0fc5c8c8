"""Many small tensors, every object made: tensorlift beside safetensors' `load_file`.

    python objects.py [--tensors 20000] [--bytes 2048] [--rounds 15] [--floor]

Both alternate in one process, each round begins with the other one, and ratios are taken within
a round. Objects of the round before are gone before the clock runs.

`--floor` compares with the least that the same can take instead: raw reads of the file into fresh
memory, and a loop of C that makes the objects alone (floor.c, which needs a C compiler).
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import mmap
import os
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: Sizes of huge pages, to which memory for raw reads is aligned, and of one raw read.
HUGE, CHUNK = 2 << 20, 4 << 20


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


def compare(name: str, others: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> None:
    """One row of a table: the other engine, ours, and how many times our time the other takes."""
    engines = {"others": others, "ours": ours}
    found: dict[str, list[tuple[float, float]]] = {"others": [], "ours": []}
    for load in (others, ours):
        measure(load)
    for number in range(rounds):
        for engine in sorted(engines, reverse=number % 2 == 1):
            found[engine].append(measure(engines[engine]))

    def cell(engine: str) -> str:
        wall, cpu = (statistics.median(part) for part in zip(*found[engine], strict=True))
        return f"{wall * 1e3:.1f} ms ({cpu * 1e3:.1f})"

    def ratio(which: int) -> str:
        pairs = zip(found["others"], found["ours"], strict=True)
        ratios = sorted(one[which] / other[which] for one, other in pairs)
        return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} .. {ratios[-1]:.2f}]"

    print(f"| {name} | {cell('others')} | {cell('ours')} | {ratio(0)} | {ratio(1)} |", flush=True)


def table(others: str) -> None:
    """The head of a table."""
    print(f"| | {others}: wall (processors) | `tensorlift.load` | ratio, wall | processors |")
    print("| --- | --- | --- | --- | --- |")


def peers(path: Path, rounds: int) -> None:
    """tensorlift beside safetensors."""
    import safetensors.numpy
    import tensorlift

    table("`load_file`")
    compare(
        "numpy",
        lambda: safetensors.numpy.load_file(path),
        lambda: dict(tensorlift.load(path)),
        rounds,
    )
    try:
        import safetensors.torch
    except ImportError:
        return
    compare(
        "torch",
        lambda: safetensors.torch.load_file(path),
        lambda: dict(tensorlift.load(path, framework="torch")),
        rounds,
    )


def floor(path: Path, tensors: int, size: int, rounds: int) -> None:
    """tensorlift beside the least that reading the file and making the objects can take."""
    import tensorlift

    exchange = None
    try:
        import torch

        exchange = torch.Tensor.__dlpack_c_exchange_api__
    except (ImportError, AttributeError):
        pass
    native = compiled(path.parent, exchange is not None)

    def arrays() -> Any:
        memory = raw_read(path)
        return native.arrays(memory, tensors, size)

    def torch_tensors() -> Any:
        memory = raw_read(path)
        # The tensors do not keep it.
        kept.append(memory)
        return native.tensors(exchange, memory, tensors, size)

    kept: list[mmap.mmap] = []
    table("raw reads, objects by C")
    compare("numpy", arrays, lambda: dict(tensorlift.load(path)), rounds)
    if exchange is not None:
        ours = lambda: dict(tensorlift.load(path, framework="torch"))  # noqa: E731
        compare("torch", torch_tensors, ours, rounds)


def raw_read(path: Path) -> mmap.mmap:
    """The bytes of a file in fresh memory, read by a thread for each processor."""
    length = path.stat().st_size
    memory = mmap.mmap(-1, length + HUGE)
    memory.madvise(mmap.MADV_HUGEPAGE)
    with (
        path.open("rb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        memoryview(memory) as view,
    ):

        def read(start: int) -> int:
            return os.preadv(file.fileno(), [view[start : min(start + CHUNK, length)]], start)

        assert sum(pool.map(read, range(0, length, CHUNK))) == length
    return memory


def compiled(folder: Path, with_torch: bool) -> Any:
    """floor.c as a module."""
    import numpy

    library = folder / "floor.so"
    include = [sysconfig.get_path("include"), numpy.get_include()]
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library)]
    command.append(str(Path(__file__).with_name("floor.c")))
    if with_torch:
        import torch

        include.append(str(Path(torch.__file__).parent / "include"))
        command.append("-DWITH_TORCH")
    subprocess.run([*command, *(f"-I{folder}" for folder in include)], check=True)
    spec = importlib.util.spec_from_file_location("floor", library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--floor", action="store_true", help="beside the least that it can take")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.safetensors"
        write(path, arguments.tensors, arguments.bytes)
        if arguments.floor:
            floor(path, arguments.tensors, arguments.bytes, arguments.rounds)
        else:
            peers(path, arguments.rounds)


if __name__ == "__main__":
    main()
