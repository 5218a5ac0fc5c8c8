"""`patch()`: which calls go where, and that nothing of it stays behind."""

import pickle
import subprocess
import sys
import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import safetensors  # noqa: E402
import safetensors.torch  # noqa: E402
import tensorlift  # noqa: E402
import tensorlift.safetensors  # noqa: E402
from conftest import write_safetensors  # noqa: E402

pytestmark = pytest.mark.torch
ORIGINALS = (safetensors.safe_open, safetensors.torch.load_file, torch.load)


@pytest.fixture(autouse=True)
def whole():
    yield
    assert (safetensors.safe_open, safetensors.torch.load_file, torch.load) == ORIGINALS


@pytest.fixture
def file(tmp_path):
    import numpy as np

    return write_safetensors(tmp_path / "m.safetensors", {"a": np.ones((2, 3), np.float32)})


def test_calls_go_through_tensorlift_and_are_counted(file, tmp_path):
    with tensorlift.patch() as patched:
        before = patched.counts.copy()
        with safetensors.safe_open(file, framework="pt", device="cpu", backend="mmap") as opened:
            assert isinstance(opened, tensorlift.safetensors.safe_open)
            assert isinstance(opened, safetensors.safe_open)
            assert torch.equal(opened.get_tensor("a"), torch.ones(2, 3))
        assert torch.equal(safetensors.torch.load_file(file)["a"], torch.ones(2, 3))
        torch.save({"b": torch.ones(1)}, tmp_path / "b.pt")
        assert torch.equal(torch.load(tmp_path / "b.pt")["b"], torch.ones(1))
        for name in ("safe_open", "load_file", "torch_load"):
            assert patched.counts[name, "tensorlift"] - before[name, "tensorlift"] == 1
            assert patched.counts[name, "original"] == before[name, "original"]


def test_names_that_were_imported_before_are_rebound(file):
    module = types.ModuleType("imported_before")
    exec("from safetensors import safe_open\nfrom torch import load", vars(module))
    sys.modules["imported_before"] = module
    try:
        with tensorlift.patch():
            assert module.safe_open is safetensors.safe_open is not ORIGINALS[0]
            assert module.load is torch.load is not ORIGINALS[2]
        assert module.safe_open is ORIGINALS[0] and module.load is ORIGINALS[2]
    finally:
        del sys.modules["imported_before"]


def test_modules_that_are_imported_later_find_the_replacements(file):
    code = (
        "import sys, tensorlift\n"
        "assert 'torch' not in sys.modules and 'safetensors' not in sys.modules\n"
        "from safetensors.torch import load_file\n"
        "from safetensors import safe_open\n"
        "from torch import load\n"
        "load_file(sys.argv[1])\n"
        "counts = tensorlift.Patch().counts\n"
        "assert counts['load_file', 'tensorlift'] == 1, counts\n"
        "assert load.__module__ == safe_open.__module__ == 'tensorlift._patch'\n"
    )
    environment = {"TENSORLIFT_PATCH": "1", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, env=environment)


def test_a_function_can_be_left_alone():
    with tensorlift.patch(torch_load=False):
        assert torch.load is ORIGINALS[2]
        assert safetensors.safe_open is not ORIGINALS[0]


def test_what_is_not_served_goes_to_the_original(file, tmp_path, caplog):
    with tensorlift.patch() as patched, caplog.at_level("INFO", "tensorlift"):
        before = patched.counts["torch_load", "original"]
        torch.save({"b": torch.ones(1)}, tmp_path / "b.pt")
        for _ in range(2):
            torch.load(tmp_path / "b.pt", map_location=lambda storage, location: storage)
        assert patched.counts["torch_load", "original"] - before == 2
        with pytest.raises(FileNotFoundError):
            safetensors.safe_open("none.safetensors", framework="pt")
    assert caplog.text.count("map_location is a callable") <= 1


def test_nesting_and_wrappers():
    outer = tensorlift.patch()
    tensorlift.patch()
    tensorlift.unpatch()
    assert torch.load is not ORIGINALS[2]
    replacement = torch.load

    def wrapper(*arguments, **options):
        return replacement(*arguments, **options)

    torch.load = wrapper
    outer.__exit__()
    assert torch.load is wrapper
    torch.load = ORIGINALS[2]


def test_after_unpatch_a_kept_replacement_is_the_original(file, tmp_path):
    with tensorlift.patch() as patched:
        kept = torch.load
    before = patched.counts.copy()
    torch.save({"b": torch.ones(1)}, tmp_path / "b.pt")
    assert torch.equal(kept(tmp_path / "b.pt")["b"], torch.ones(1))
    assert patched.counts == before


def test_pickling(file):
    original = pickle.dumps(ORIGINALS[2])
    with tensorlift.patch():
        assert pickle.loads(original) is ORIGINALS[2]
        assert pickle.loads(pickle.dumps(ORIGINALS[2])) is ORIGINALS[2]
        replacement = pickle.dumps([torch.load, safetensors.safe_open])
        assert pickle.loads(replacement) == [torch.load, safetensors.safe_open]
    assert callable(pickle.loads(replacement)[0])


def test_helpers_come_from_the_module_that_is_there(tmp_path):
    from tensorlift.safetensors.torch import save_file

    before = safetensors.torch
    save_file({"a": torch.ones(2)}, tmp_path / "m.safetensors")
    assert safetensors.torch is sys.modules["safetensors.torch"] is before
