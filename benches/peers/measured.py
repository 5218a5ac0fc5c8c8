"""What the Python engines share: memory, checksum, and the line that benches/protocol reads."""

import json
import os
import sys
import zlib
from pathlib import Path

# Bytes that are summed up at once: a multiple of eight, and little beside the tensors.
STEP = 64 << 20


def files_of(path):
    path = Path(path)
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".bin"))


def memory():
    """Resident bytes and their peak."""
    fields = dict.fromkeys(("VmRSS", "VmHWM"), 0)
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = int(value.split()[0]) * 1024
    return fields["VmRSS"], fields["VmHWM"]


def forget_peak():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def prime(size):
    """Touches and frees memory, so that no engine pays for what its host had taken back."""
    import numpy

    if size:
        block = numpy.empty(size, numpy.uint8)
        block.fill(1)
        del block
    forget_peak()


def checksum(tensors):
    """The same sum as the checksum of benches/protocol, computed where the tensors are."""
    total, size, unnamed = 0, 0, 0
    for name, tensor in tensors.items():
        own, own_size = sum_of(tensor)
        size += own_size
        unnamed += own
        total += own * (zlib.crc32(name.encode()) | 1)
    return {"tensors": len(tensors), "bytes": size, "sum": total % 2**64, "unnamed": unnamed % 2**64}


def sum_of(tensor):
    import numpy
    import torch

    if isinstance(tensor, numpy.ndarray):
        # Its bytes: torch does not know all of numpy's dtypes.
        tensor = torch.from_numpy(numpy.ascontiguousarray(tensor).reshape(-1).view(numpy.uint8))
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    total = 0
    for start in range(0, data.numel(), STEP):
        part = data[start : start + STEP]
        # A copy that begins where words may, whatever the tensor's own place.
        words = torch.zeros((part.numel() + 7) // 8, dtype=torch.int64, device=data.device)
        words.view(torch.uint8)[: part.numel()] = part
        odd = torch.arange(words.numel(), device=data.device) + start // 8
        total += int((words * (2 * odd + 1)).sum())
    return total % 2**64, data.numel()


def request():
    """ENGINE PATH [--prime BYTES]"""
    engine, path = sys.argv[1:3]
    return engine, files_of(path), int(sys.argv[4]) if len(sys.argv) > 4 else 0


def answer(outcome):
    print(json.dumps(outcome), flush=True)
    # Nobody waits for gigabytes to be given back one tensor at a time.
    os._exit(0)
