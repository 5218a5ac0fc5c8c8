"""Lists the tensors of a file as real PyTorch loads them, one JSON object a line.

The first line says how they were read, and whether a reader may find more.
"""

import json
import pickle
import sys
import types
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "fixtures"))

import safetensors.torch
import torch
from recipes.walk import lines_of


class Stub:
    """A class of a package that is not installed; holds what was pickled."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


class Unpickler(pickle.Unpickler):
    """PyTorch's own, but for classes that are not there."""

    def find_class(self, module, name):
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (Stub,), {"__module__": module})


PICKLE = types.SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")


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
        value = torch.load(path, map_location="cpu", weights_only=False, pickle_module=PICKLE)
        return value, "PyTorch, pickled code run", False


def main(path):
    value, by, partial = read(path)
    print(json.dumps({"by": by, "partial": partial}))
    for line in lines_of(value):
        line.pop("requires_grad", None)
        print(json.dumps(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
