"""Gigabytes, and thousands of loads: `cargo xtask python-tests large`."""

import gc
import os
import threading

import numpy as np
import pytest
import tensorlift
from conftest import write_safetensors

pytestmark = pytest.mark.large
#: Tensors of 4.3 GB in the sizes of a model of two billion parameters.
LAYERS, WIDE, NARROW = 28, 7040 * 2560, 2560
DTYPE = np.float16


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    wide, narrow = np.ones(WIDE, DTYPE), np.ones(NARROW, DTYPE)
    arrays = {}
    for layer in range(LAYERS):
        arrays |= {f"layers.{layer}.{part}": wide for part in ("up", "gate", "down", "attention")}
        arrays[f"layers.{layer}.norm"] = narrow
    write_safetensors(path, arrays)
    assert path.stat().st_size > 4_000_000_000
    yield path
    path.unlink()


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("kept", ["layers.13.norm", "layers.14.up"])
def test_all_but_one_tensor_of_4_gigabytes_give_their_memory_back(model, framework, kept, counters):
    if framework == "torch":
        pytest.importorskip("torch")
    resident_bytes, _ = counters
    gc.collect()
    before = resident_bytes()
    tensors = tensorlift.load(model, framework=framework)
    assert resident_bytes() - before > 4_000_000_000
    last = tensors[kept]
    for name in list(tensors):
        del tensors[name]
    gc.collect()
    assert resident_bytes() - before <= last.nbytes + (64 << 20)
    assert bool((last == 1).all())


def test_ten_thousand_loads_leave_nothing_behind(many, counters):
    resident_bytes, _ = counters
    path, _ = many

    def state():
        gc.collect()
        tasks, descriptors = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
        return resident_bytes(), len(descriptors), len(tasks), threading.active_count()

    for _ in range(100):
        tensorlift.load(path, select="layers.?.*")
    memory, *rest = state()
    for _ in range(10_000):
        tensorlift.load(path, select="layers.?.*")
    memory_after, *rest_after = state()
    assert memory_after - memory < 8 << 20
    assert rest_after == rest
