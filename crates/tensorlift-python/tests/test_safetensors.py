"""`tensorlift.safetensors` with numpy alone; safetensors' own tests are run by
`cargo xtask python-tests safetensors`."""

import sys
import threading

import numpy as np
import pytest
import tensorlift.safetensors
from conftest import write_safetensors
from tensorlift.safetensors import SafetensorError, safe_open
from tensorlift.safetensors import numpy as ours


def test_a_file_that_the_original_reads_as_it_was(tmp_path):
    original = pytest.importorskip("safetensors.numpy")
    arrays = {
        "b": np.arange(6, dtype=np.int64).reshape(2, 3),
        "a": np.array(1.5, np.float16),
        "ü\n": np.zeros((0, 3), np.uint8),
    }
    written = tmp_path / "m.safetensors"
    ours.save_file(arrays, written, {"key": "välue"})
    assert (
        written.read_bytes()
        == original.save(arrays, {"key": "välue"})
        == ours.save(arrays, {"key": "välue"})
    )
    for name, array in original.load_file(written).items():
        np.testing.assert_array_equal(array, arrays[name])
    for found in (ours.load_file(written), ours.load(written.read_bytes())):
        assert set(found) == set(arrays)
        for name, array in found.items():
            assert array.dtype == arrays[name].dtype
            np.testing.assert_array_equal(array, arrays[name])


def test_bytes_that_are_read(many, counters):
    path, arrays = many
    _, read_bytes = counters
    total = sum(array.nbytes for array in arrays.values())

    def cost(work):
        before = read_bytes()
        with safe_open(path, framework="np") as file:
            work(file)
        return read_bytes() - before

    def header(file):
        assert file.metadata() == {"made": "here"}
        assert [file.get_slice(name).get_shape() for name in file.keys()]

    assert cost(header) < 100_000
    one = cost(lambda file: file.get_tensor("layers.7.weight"))
    assert one < 400_000
    # Two rows of 16 KiB, and a corner that reaches over two rows.
    rows = cost(lambda file: file.get_slice("layers.7.weight")[2:4])
    assert 32 << 10 < rows < 90_000
    corner = cost(lambda file: file.get_slice("layers.7.weight")[4:6, :8])
    assert 16 << 10 < corner < 90_000
    # More than a tenth, row by row: the file is read once.
    halves = cost(lambda file: [file.get_slice(name)[:4] for name in file.offset_keys()])
    assert total * 0.9 < halves < total * 1.2
    everything = cost(lambda file: [file.get_tensor(name) for name in file.offset_keys()])
    # Cached ranges of a direct read are counted by the kernel like any other.
    assert total * 0.9 < everything < total * 1.1


def test_every_tensor_and_its_parts_are_right(many):
    path, arrays = many
    with safe_open(path, framework="np") as file:
        assert file.keys() == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        part = file.get_slice("layers.3.weight")
        np.testing.assert_array_equal(part[2:5, ::7], arrays["layers.3.weight"][2:5, ::7])
        np.testing.assert_array_equal(part[..., -1], arrays["layers.3.weight"][..., -1])
        np.testing.assert_array_equal(part[...], arrays["layers.3.weight"])
    with safe_open(path, framework="np") as file:
        # As long as the tensor has not been read: only what is asked for.
        part, whole = file.get_slice("layers.3.weight"), arrays["layers.3.weight"]
        for key in [
            np.s_[2:5, ::700],
            np.s_[..., 4000:],
            np.s_[-1],
            np.s_[3, 5],
            np.s_[1:9:3, -1],
            np.s_[5:5],
            np.s_[:, :0],
            (),
        ]:
            np.testing.assert_array_equal(part[key], whole[key])
        assert part[[]].shape == (0, 4096)
        assert part[2:4].base.nbytes <= 2 * 4096 * 4 if part[2:4].base is not None else True
    with pytest.raises(SafetensorError, match="closed"):
        file.get_tensor("layers.3.weight")


def test_slices_from_several_threads(many):
    path, arrays = many
    failed = []
    with safe_open(path, framework="np") as file:

        def work(number):
            try:
                for name in list(arrays)[number::4]:
                    np.testing.assert_array_equal(file.get_slice(name)[:3], arrays[name][:3])
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


def test_memory_goes_back_while_the_file_is_open(tmp_path, counters):
    resident_bytes, _ = counters
    arrays = {f"t{number:02}": np.full(1 << 20, number, np.float32) for number in range(32)}
    path = write_safetensors(tmp_path / "m.safetensors", arrays)
    del arrays
    before = resident_bytes()
    with safe_open(path, framework="np") as file:
        for number, name in enumerate(file.keys()):
            assert file.get_tensor(name)[-1] == number
        assert resident_bytes() - before < 16 << 20


def test_what_is_no_safetensors_file_is_refused(tmp_path, fixtures):
    with pytest.raises(FileNotFoundError, match="No such file or directory: none"):
        safe_open("none", framework="np")
    torch_file = next((fixtures / "torch").glob("*.pt"))
    with pytest.raises(SafetensorError, match="Error while deserializing header"):
        safe_open(torch_file, framework="np")
    with pytest.raises(SafetensorError, match="Error while deserializing"):
        ours.load(b"\x00")
    with pytest.raises(SafetensorError, match="framework"):
        safe_open(torch_file, framework="none")
    assert tensorlift.safetensors.__version__ == "0.8.0"


def test_the_package_has_it_without_an_import_of_its_own(monkeypatch):
    monkeypatch.delattr(tensorlift, "safetensors")
    assert tensorlift.safetensors is sys.modules["tensorlift.safetensors"]
    with pytest.raises(AttributeError, match="module 'tensorlift' has no attribute 'nothing'"):
        tensorlift.nothing  # noqa: B018
