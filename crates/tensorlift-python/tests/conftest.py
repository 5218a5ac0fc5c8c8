"""What the tests share: the repository's fixtures, and files made here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


@pytest.fixture
def fixtures() -> Path:
    """The committed fixtures of the repository."""
    return FIXTURES


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], metadata=None) -> Path:
    """Writes a file without any of the code under test."""
    header: dict[str, object] = {}
    if metadata is not None:
        header["__metadata__"] = metadata
    end = 0
    names = {"float32": "F32", "float16": "F16", "int64": "I64", "uint8": "U8"}
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.tobytes())
    return path


@pytest.fixture
def many(tmp_path) -> tuple[Path, dict[str, np.ndarray]]:
    """A file of 200 arrays, 25 MB together, and the arrays."""
    random = np.random.default_rng(1)
    arrays = {
        f"layers.{number}.weight": random.random((8 + number % 5, 4096), dtype=np.float32)
        for number in range(160)
    }
    arrays |= {f"layers.{number}.bias": random.random(7, dtype=np.float32) for number in range(40)}
    return write_safetensors(tmp_path / "many.safetensors", arrays, {"made": "here"}), arrays


def resident_bytes() -> int:
    """Memory of this process that is in RAM and backed by no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def read_bytes() -> int:
    """Bytes that this process has asked to be read so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise AssertionError("no rchar")


@pytest.fixture
def counters():
    """The two counters above."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    return resident_bytes, read_bytes
