"""Loading into numpy arrays."""

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorlift
from conftest import write_safetensors
from tensorlift import _dtypes


def test_every_byte_is_there_in_file_order(many):
    path, arrays = many
    tensors = tensorlift.load(path)
    assert isinstance(tensors, dict)
    assert list(tensors) == list(arrays)
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)
    report = tensors.report
    assert report["tensors"] == 200
    assert report["bytes_wanted"] == sum(array.nbytes for array in arrays.values())
    assert "200 tensors" in str(report)


@pytest.mark.parametrize(
    "how", [{"reader": "auto"}, {"reader": "buffered"}, {"reader": "direct"}, {"mode": "map"}]
)
def test_every_reader_gives_the_same(many, how):
    path, arrays = many
    tensors = tensorlift.load(path, **how)
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_arrays_are_writable_views_and_mappings_are_not(many):
    path, arrays = many
    owned = tensorlift.load(path)["layers.0.weight"]
    assert owned.flags.writeable and not owned.flags.owndata
    owned[:] = 0
    np.testing.assert_array_equal(
        tensorlift.load(path)["layers.0.weight"], arrays["layers.0.weight"]
    )
    mapped = tensorlift.load(path, mode="map")["layers.0.weight"]
    with pytest.raises(ValueError, match="read-only"):
        mapped[:] = 0


@pytest.mark.parametrize(
    "select",
    [
        "layers.1?.bias",
        [f"layers.1{n}.bias" for n in range(10)],
        lambda e: e.name[7:8] == "1" and len(e.name) == 14,
    ],
)
def test_a_selection_loads_nothing_else(many, select):
    path, arrays = many
    tensors = tensorlift.load(path, select=select)
    assert list(tensors) == [f"layers.1{number}.bias" for number in range(10)]
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, arrays[name])
    assert tensors.report["bytes_read"] < 100_000


def test_a_selected_name_that_is_not_there_is_an_error(many):
    path, _ = many
    with pytest.raises(tensorlift.NotFoundError, match="nope"):
        tensorlift.load(path, select=["nope"])


def test_dtype_converts_floats_alone(tmp_path):
    arrays = {"f": np.ones((2, 3), np.float32), "i": np.arange(3)}
    path = write_safetensors(tmp_path / "m.safetensors", arrays)
    tensors = tensorlift.load(path, dtype="float16")
    assert (tensors["f"].dtype, tensors["i"].dtype) == (np.float16, np.int64)
    np.testing.assert_array_equal(tensors["f"], arrays["f"])


def test_a_conversion_takes_no_memory_of_the_files_dtype(tmp_path, counters):
    resident_bytes, _ = counters
    arrays = {f"t{number}": np.full(1 << 20, number + 0.5, np.float32) for number in range(64)}
    path = write_safetensors(tmp_path / "m.safetensors", arrays)
    code = (
        "import sys, tensorlift\n"
        "tensors = tensorlift.load(sys.argv[1], dtype='float16')\n"
        "assert all((tensors[f't{n}'] == n + 0.5).all() for n in range(64))\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "(peak,) = [line.split()[1] for line in lines if line.startswith('VmHWM')]\n"
        "print(peak)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    # 128 MiB of F16 beside an interpreter with numpy, and not the 256 MiB of F32.
    assert int(done.stdout) < (128 + 96) << 10


def test_views_outlive_the_dict_and_their_memory_goes_with_them(tmp_path, counters):
    resident_bytes, _ = counters
    arrays = {f"t{number}": np.full(1 << 20, number, np.float32) for number in range(64)}
    path = write_safetensors(tmp_path / "m.safetensors", arrays)
    expected = arrays["t33"].copy()
    del arrays
    gc.collect()
    before = resident_bytes()
    tensors = tensorlift.load(path)
    assert resident_bytes() - before > 250 << 20
    last = tensors["t33"][::2]
    del tensors
    gc.collect()
    assert resident_bytes() - before < 16 << 20
    np.testing.assert_array_equal(last, expected[::2])
    del last
    assert resident_bytes() - before < 8 << 20


def test_neighbours_of_freed_tensors_keep_their_bytes(many):
    path, arrays = many
    tensors = tensorlift.load(path)
    for name in list(tensors)[::2]:
        del tensors[name]
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_loads_leave_nothing_behind(many, counters):
    resident_bytes, _ = counters
    path, _ = many
    for _ in range(20):
        tensorlift.load(path, select="*.bias")
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    tasks = len(os.listdir("/proc/self/task"))
    before = resident_bytes()
    for _ in range(1000):
        tensorlift.load(path, select="layers.?.bias")
    gc.collect()
    assert resident_bytes() - before < 8 << 20
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert len(os.listdir("/proc/self/task")) <= tasks
    assert threading.active_count() == threads


def test_several_threads_load_at_once(many):
    path, arrays = many
    failed = []

    def work():
        try:
            for name, array in tensorlift.load(path).items():
                np.testing.assert_array_equal(array, arrays[name])
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_progress_ends_with_everything(many):
    path, _ = many
    steps = []
    tensors = tensorlift.load(path, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (tensors.report["bytes_read"], tensors.report["bytes_read"])


def test_the_log_says_what_ran_for_each_file_and_why(many, caplog):
    path, _ = many
    with caplog.at_level(logging.DEBUG, "tensorlift"):
        tensorlift.load(path, reader="buffered")
    load, file = [record.getMessage() for record in caplog.records]
    assert load.startswith(f"{path}: 200 tensors") and "buffered" in load
    assert file.startswith(f"{path}: safetensors, read by buffered; ") and " not used: " in file


def test_what_a_callback_raises_comes_out(many):
    path, _ = many

    def fail(done, total):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        tensorlift.load(path, progress=fail)


def test_an_interrupt_stops_a_load(tmp_path):
    # A file with a hole: long, and quick to make.
    size = 20 << 30
    header = b'{"t":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    path = tmp_path / "long.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    code = (
        "import signal, sys, tensorlift\n"
        # A background job of a shell ignores the signal, and its children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "checkpoint = tensorlift.open(sys.argv[1])\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    checkpoint.load(reader='buffered')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
        "except tensorlift.DeviceError:\n"
        "    print('no memory')\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    if out == "no memory\n":
        pytest.skip("needs 20 GiB of memory")
    assert out == "interrupted\n"


def test_too_little_memory_is_refused_before_a_byte_is_read(many):
    path, _ = many
    with pytest.raises(tensorlift.LimitExceededError):
        tensorlift.load(path, max_memory=1 << 20)


def test_a_forked_child_loads_a_sharded_checkpoint(tmp_path):
    arrays = {f"t{number}": np.full(1 << 16, number, np.float32) for number in range(24)}
    weight_map = {}
    for shard in range(8):
        file = f"model-{shard + 1:05}-of-00008.safetensors"
        part = {name: arrays[name] for name in list(arrays)[shard * 3 : shard * 3 + 3]}
        write_safetensors(tmp_path / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    path = tmp_path
    tensorlift.load(path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            tensors = tensorlift.load(path)
            same = all(np.array_equal(tensors[name], arrays[name]) for name in arrays)
            code = 0 if same else 2
        finally:
            os._exit(code)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def test_a_gpu_in_a_forked_child_is_a_typed_error(many):
    # Whether there is a GPU does not matter: the parent has asked for one.
    path, _ = many
    code = (
        "import os, sys, tensorlift\n"
        "def ask():\n"
        "    try:\n"
        "        tensorlift.open(sys.argv[1]).plan('cuda:0')\n"
        "    except tensorlift.Error as error:\n"
        "        return error\n"
        "ask()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    error = ask()\n"
        "    is_told = isinstance(error, tensorlift.DeviceError) and 'fork' in str(error)\n"
        "    os._exit(0 if is_told else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_torch_is_not_imported_for_numpy(many):
    path, _ = many
    code = (
        "import sys, tensorlift\n"
        "tensorlift.load(sys.argv[1])\n"
        "assert not any(name.split('.')[0] in ('torch', 'safetensors') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_dtypes_that_numpy_lacks_are_named(fixtures, monkeypatch):
    from tensorlift import _dtypes

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    raw = _dtypes.numpy_dtypes.__wrapped__()
    assert raw["BF16"].names == ("BF16",) and raw["BF16"].itemsize == 2
    monkeypatch.undo()
    pytest.importorskip("ml_dtypes")
    assert _dtypes.numpy_dtypes.__wrapped__()["BF16"].name == "bfloat16"


def test_a_device_map_must_cover_every_tensor(many):
    path, _ = many
    with pytest.raises(tensorlift.MisuseError, match="pattern"):
        tensorlift.load(path, device={"layers.0": "cpu"})
    tensors = tensorlift.load(path, device={"layers.0": "cpu", "": "cpu"})
    assert len(tensors) == 200


def test_tensors_arrive_one_by_one(many):
    path, arrays = many
    names = []
    for name, array in tensorlift.open(path).load_each():
        names.append(name)
        np.testing.assert_array_equal(array, arrays[name])
    assert names == list(arrays)


def test_load_into_reads_straight_into_arrays(many, counters):
    resident_bytes, _ = counters
    path, arrays = many
    target = {name: np.zeros_like(array) for name, array in arrays.items()}
    target["more"] = np.zeros(3)
    for array in target.values():
        array[...] = 1
    addresses = {name: array.ctypes.data for name, array in target.items()}
    before = resident_bytes()
    filled = tensorlift.open(path).load_into(target)
    assert resident_bytes() - before < 8 << 20
    assert (filled.missing, filled.unexpected) == (["more"], [])
    assert filled.report["bytes_wanted"] == sum(array.nbytes for array in arrays.values())
    for name, array in arrays.items():
        assert target[name].ctypes.data == addresses[name]
        np.testing.assert_array_equal(target[name], array)


def test_load_into_converts_and_fills_strided_arrays(many):
    path, arrays = many
    name = "layers.1.weight"
    target = {name: np.zeros(arrays[name].shape[::-1], np.float16).T}
    filled = tensorlift.open(path).load_into(target)
    assert len(filled.unexpected) == 199
    np.testing.assert_array_equal(target[name], arrays[name].astype(np.float16))
    with pytest.raises(tensorlift.NotFoundError, match="layers.0.weight"):
        tensorlift.open(path).load_into(target, strict=True)


def test_load_into_converts_into_place(many, counters):
    resident_bytes, _ = counters
    path, arrays = many
    target = {name: np.ones(array.shape, np.float16) for name, array in arrays.items()}
    before = resident_bytes()
    tensorlift.open(path).load_into(target)
    assert resident_bytes() - before < 8 << 20
    for name, array in arrays.items():
        np.testing.assert_array_equal(target[name], array.astype(np.float16))


def test_load_into_refuses_other_shapes_before_it_writes(many):
    path, arrays = many
    target = {name: np.zeros_like(array) for name, array in arrays.items()}
    target["layers.2.weight"] = np.zeros((1, 2), np.float32)
    with pytest.raises(tensorlift.MisuseError, match="layers.2.weight"):
        tensorlift.open(path).load_into(target)
    assert not target["layers.0.weight"].any()


@pytest.mark.parametrize(
    "arguments, told",
    [
        ({"device": "gpu"}, "expected the name of a device, found 'gpu'"),
        ({"device": 1.5}, "expected the name of a device, found '1.5'"),
        ({"dtype": "int4"}, "expected F64, F32, F16 or BF16"),
        ({"dtype": "int8"}, "expected keep or f64 or f32"),
        ({"framework": "jax"}, "expected framework 'numpy' or 'torch'"),
        ({"max_memory": "lots"}, 'max_memory="lots" \\(expected a size'),
        ({"progress": 3}, "expected True, False or a function"),
        ({"reader": "mmap"}, "expected auto or buffered or direct or uring"),
        ({"select": 3}, "expected a pattern, a list of names"),
        ({"select": [3]}, "expected a pattern, a list of names"),
    ],
)
def test_wrong_arguments_are_refused_by_name(many, arguments, told):
    path, _ = many
    with pytest.raises(tensorlift.MisuseError, match=told):
        tensorlift.load(path, **arguments)


def test_load_into_refuses_what_is_no_array(many):
    path, arrays = many
    with pytest.raises(tensorlift.MisuseError, match=r"layers.0.weight: .* found list"):
        tensorlift.open(path).load_into({"step": 3, "layers.0.weight": [1.0]})
    target = {"step": 3, "layers.0.bias": np.zeros((1, 7), np.float32)[0, ::1]}
    assert tensorlift.open(path).load_into(target).missing == ["step"]
    np.testing.assert_array_equal(target["layers.0.bias"], arrays["layers.0.bias"])


def test_load_into_refuses_what_cannot_take_the_values(many):
    path, arrays = many
    target = {name: np.zeros_like(array) for name, array in arrays.items()}
    locked = np.zeros(7, np.float32)
    locked.flags.writeable = False
    for array, told in ((np.zeros(7, np.int64), "the model has int64"), (locked, "is read-only")):
        target["layers.2.bias"] = array
        with pytest.raises(tensorlift.MisuseError, match=rf"layers.2.bias: .*{told}"):
            tensorlift.open(path).load_into(target)
        assert not target["layers.0.weight"].any()


def test_without_torch_an_error_says_what_needs_it(many, monkeypatch):
    path, _ = many
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(_dtypes, "torch_dtypes", _dtypes.torch_dtypes.__wrapped__)
    for asked in ({"framework": "torch"}, {"device": "cuda"}, {"device": "cuda:1"}):
        with pytest.raises(ModuleNotFoundError, match="need the package torch.*framework='numpy'"):
            tensorlift.load(path, **asked)
    assert isinstance(tensorlift.load(path, "auto")["layers.0.bias"], np.ndarray)
