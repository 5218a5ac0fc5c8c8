"""One measured process: loads one checkpoint into host memory with one Python engine, once.

    engines.py ENGINE PATH [--prime BYTES]

Imports come before the clock; the last line printed is what benches/protocol calls an outcome.
"""

import os
import time

import torch

import measured


def safetensors_clone(files):
    """load_file maps the file; a clone is in memory of its own."""
    tensors = {}
    for file in files:
        for name, tensor in safetensors.torch.load_file(file).items():
            tensors[name] = tensor.clone()
    return tensors


def run_ai(files):
    """Tensors that the streamer yields belong to the caller."""
    with runai_model_streamer.SafetensorsStreamer() as streamer:
        streamer.stream_files([str(file) for file in files])
        return dict(streamer.get_tensors())


def fast(files):
    with fastsafetensors.fastsafe_open([str(file) for file in files], nogds=True) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


def torch_load(files):
    tensors = {}
    for file in files:
        tensors.update(torch.load(file, weights_only=True))
    return tensors


def torch_mmap_clone(files):
    tensors = {}
    for file in files:
        for name, tensor in torch.load(file, mmap=True, weights_only=True).items():
            tensors[name] = tensor.clone()
    return tensors


ENGINES = {
    "safetensors-clone": safetensors_clone,
    "fastsafetensors": fast,
    "runai-16": run_ai,
    "torch-load": torch_load,
    "torch-mmap-clone": torch_mmap_clone,
}


def main(engine, files, prime_bytes):
    load = ENGINES[engine]
    measured.prime(prime_bytes)
    before, _ = measured.memory()
    start = time.perf_counter()
    tensors = load(files)
    seconds = time.perf_counter() - start
    _, peak = measured.memory()
    measured.answer(
        {
            "seconds": seconds,
            "resident_before": before,
            "resident_peak": peak,
            "checksum": measured.checksum(tensors),
        }
    )


if __name__ == "__main__":
    engine, files, prime_bytes = measured.request()
    if engine.startswith("safetensors"):
        import safetensors.torch
    elif engine == "fastsafetensors":
        import fastsafetensors
    elif engine.startswith("runai"):
        os.environ["RUNAI_STREAMER_CONCURRENCY"] = engine.partition("-")[2]
        import runai_model_streamer
    main(engine, files, prime_bytes)
