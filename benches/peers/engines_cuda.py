"""One measured process: loads one checkpoint to the first GPU with one Python engine, once.

    engines_cuda.py ENGINE PATH [--prime BYTES]

Imports come before the clock, the driver's start within it; nothing else runs meanwhile.
The clock stops once the device is synchronised. A second load in the same process is timed too.
With ENGINE+memory, the device's memory is watched instead, and the time says nothing.
"""

import importlib
import importlib.util
import json
import sys
import threading
import time

import measured

DEVICE = "cuda:0"


def safetensors_load(files):
    tensors = {}
    for file in files:
        tensors.update(PEER.torch.load_file(file, device=DEVICE))
    return tensors


def safetensors_prefetch(files):
    """All files at once, in the background, as its documentation has it."""
    if not hasattr(PEER.safe_open, "prefetch"):
        not_installed("safetensors has no prefetch before 0.9")
    opened = [PEER.safe_open(file, framework="pt", device=DEVICE) for file in files]
    loaders = [handle.prefetch() for handle in opened]
    return {name: tensor for loader in loaders for name, tensor in loader}


def fast(files, nogds):
    with PEER.fastsafe_open([str(file) for file in files], device=DEVICE, nogds=nogds) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


def instant(files):
    with PEER.safe_open([str(file) for file in files], framework="pt", device=DEVICE) as opened:
        return dict(opened.tensors())


def run_ai(files):
    """What the streamer yields are views of a buffer that it reuses, so they are copied."""
    with PEER.SafetensorsStreamer() as streamer:
        streamer.stream_files([str(file) for file in files], device=DEVICE)
        return {name: tensor.to(DEVICE, copy=True) for name, tensor in streamer.get_tensors()}


def torch_mmap(files):
    tensors = {}
    for file in files:
        tensors.update(torch.load(file, map_location=DEVICE, mmap=True, weights_only=True))
    return tensors


# What an engine is called, the package it needs, and how it loads.
ENGINES = {
    "safetensors-cuda": ("safetensors.torch", safetensors_load),
    "safetensors-prefetch": ("safetensors.torch", safetensors_prefetch),
    "fastsafetensors-cuda": ("fastsafetensors", lambda files: fast(files, nogds=True)),
    "fastsafetensors-gds": ("fastsafetensors", lambda files: fast(files, nogds=False)),
    "instanttensor": ("instanttensor", instant),
    "runai-cuda": ("runai_model_streamer", run_ai),
    "torch-mmap-cuda": ("torch", torch_mmap),
}


def not_installed(why):
    print(json.dumps({"error": why, "resident_peak": 0}), flush=True)
    sys.exit(f"not installed: {why}")


class Watch:
    """Looks at the device's free memory while a load runs, seldom enough not to be felt."""

    def __init__(self):
        self.before = self.least = torch.cuda.mem_get_info(0)[0]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        while not self.over.wait(0.005):
            self.least = min(self.least, torch.cuda.mem_get_info(0)[0])

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.before - min(self.least, torch.cuda.mem_get_info(0)[0])


def timed(load, files):
    start = time.perf_counter()
    tensors = load(files)
    torch.cuda.synchronize(0)
    return tensors, time.perf_counter() - start


def main(load, files, prime_bytes):
    measured.prime(prime_bytes)
    before, _ = measured.memory()
    tensors, seconds = timed(load, files)
    _, peak = measured.memory()
    outcome = {
        "seconds": seconds,
        "resident_before": before,
        "resident_peak": peak,
        "checksum": measured.checksum(tensors),
    }
    del tensors
    torch.cuda.synchronize(0)
    _, outcome["again"] = timed(load, files)
    measured.answer(outcome)


def watch(load, files):
    torch.cuda.init()
    torch.cuda.synchronize(0)
    # What the driver itself takes is not the load's.
    watch = Watch()
    tensors, seconds = timed(load, files)
    before, peak = measured.memory()
    measured.answer(
        {
            "seconds": seconds,
            "resident_before": before,
            "resident_peak": peak,
            "device_growth": watch.stop(),
            "checksum": measured.checksum(tensors),
        }
    )


if __name__ == "__main__":
    engine, files, prime_bytes = measured.request()
    engine, _, memory = engine.partition("+")
    package, load = ENGINES[engine]
    top = package.partition(".")[0]
    for name in ("torch", top):
        if importlib.util.find_spec(name) is None:
            not_installed(f"no Python package {name}")
    import torch

    # Asked of the driver's own tools: `is_available` would start it before the clock.
    if not torch.backends.cuda.is_built():
        not_installed("PyTorch is built without CUDA")
    importlib.import_module(package)
    PEER = sys.modules[top]
    if memory:
        watch(load, files)
    main(load, files, prime_bytes)
