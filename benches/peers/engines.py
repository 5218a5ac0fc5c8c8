"""One measured process: loads one checkpoint with one Python engine, once.

    engines.py ENGINE PATH [--prime BYTES]

Imports come before the clock; the last line printed is what benches/protocol calls an outcome.
"""

import json
import os
import sys
import time
import zlib
from pathlib import Path

import numpy
import torch


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


def memory():
    """Resident bytes and their peak."""
    fields = dict.fromkeys(("VmRSS", "VmHWM"), 0)
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = int(value.split()[0]) * 1024
    return fields["VmRSS"], fields["VmHWM"]


def prime(size):
    """Touches and frees memory, so that no engine pays for what its host had taken back."""
    if size:
        block = numpy.empty(size, numpy.uint8)
        block.fill(1)
        del block
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def checksum(tensors):
    """The same sum as the checksum of benches/protocol."""
    total, size, unnamed = 0, 0, 0
    for name, tensor in tensors.items():
        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        size += data.nbytes
        unnamed += zlib.crc32(data)
        total += zlib.crc32(data) * (zlib.crc32(name.encode()) | 1)
    return {"tensors": len(tensors), "bytes": size, "sum": total % 2**64, "unnamed": unnamed}


def main(engine, path, prime_bytes):
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".bin"))
    load = ENGINES[engine]

    prime(prime_bytes)
    before, _ = memory()
    start = time.perf_counter()
    tensors = load(files)
    seconds = time.perf_counter() - start
    _, peak = memory()
    outcome = {
        "seconds": seconds,
        "resident_before": before,
        "resident_peak": peak,
        "checksum": checksum(tensors),
    }
    print(json.dumps(outcome), flush=True)
    # Nobody waits for gigabytes to be given back one tensor at a time.
    os._exit(0)


if __name__ == "__main__":
    engine, path = sys.argv[1:3]
    if engine.startswith("safetensors"):
        import safetensors.torch
    elif engine == "fastsafetensors":
        import fastsafetensors
    elif engine.startswith("runai"):
        os.environ["RUNAI_STREAMER_CONCURRENCY"] = engine.partition("-")[2]
        import runai_model_streamer
    main(engine, path, int(sys.argv[4]) if len(sys.argv) > 4 else 0)
