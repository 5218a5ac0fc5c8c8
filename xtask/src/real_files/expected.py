"""Lists the tensors of a file as real PyTorch loads them, one JSON object a line.

The first line says how they were read, and whether a reader may find more.
"""

import json
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "fixtures"))

import safetensors.torch
import torch
from recipes.walk import lines_of


def is_script(path):
    """Whether it is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:] == ["constants.pkl"] for name in archive.namelist())


def read(path):
    """What is in the file, by which reader, and whether that is all of it."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path), "Python's safetensors", False
    if is_script(path):
        # Constants and attributes are no part of the state dict.
        state = torch.jit.load(path, map_location="cpu").state_dict()
        return state, "PyTorch's state dict of the script", True
    try:
        return torch.load(path, map_location="cpu", weights_only=True), "PyTorch, weights only", False
    except Exception:
        # The file is pinned by its hash.
        return torch.load(path, map_location="cpu", weights_only=False), "PyTorch, pickled code run", False


def main(path):
    value, by, partial = read(path)
    print(json.dumps({"by": by, "partial": partial}))
    for line in lines_of(value):
        line.pop("requires_grad", None)
        print(json.dumps(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
