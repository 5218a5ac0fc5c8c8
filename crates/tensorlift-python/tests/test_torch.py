"""Torch tensors: values, sharing, storages, and `tensorlift.torch.load` beside `torch.load`."""

import collections
import gc
import io
import logging
import pickle
import sys
import warnings
import weakref

import pytest

torch = pytest.importorskip("torch")

import tensorlift  # noqa: E402
import tensorlift.torch  # noqa: E402
from conftest import FIXTURES  # noqa: E402

pytestmark = pytest.mark.torch
ORIGINAL = tensorlift.torch._original


def bytes_of(tensor):
    return bytes(tensor.untyped_storage().cpu())


def as_bytes(storage):
    """A view of a storage: `bytes` of one goes byte by byte, in Python."""
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def assert_same(ours, theirs, shared=None):
    """Equal in every way that a program could see."""
    shared = {} if shared is None else shared
    assert type(ours) is type(theirs), (type(ours), type(theirs))
    if isinstance(theirs, (str, bytes, int, float)):
        # Which of these are one object is nobody's business.
        assert ours == theirs or (ours != ours and theirs != theirs)
        return
    if id(theirs) in shared:
        assert shared[id(theirs)] is ours
        return
    shared[id(theirs)] = ours
    if isinstance(theirs, torch.Tensor):
        for what in ("dtype", "shape", "layout", "device", "requires_grad", "is_leaf"):
            assert getattr(ours, what) == getattr(theirs, what), what
        if theirs.layout != torch.strided:
            assert torch.equal(ours.to_dense(), theirs.to_dense())
            return
        assert ours.stride() == theirs.stride()
        assert ours.storage_offset() == theirs.storage_offset()
        one, other = ours.untyped_storage(), theirs.untyped_storage()
        assert one.nbytes() == other.nbytes()
        if theirs.device.type != "meta" and other.nbytes():
            assert torch.equal(as_bytes(one), as_bytes(other))
            key = ("storage", other.data_ptr())
            assert shared.setdefault(key, one.data_ptr()) == one.data_ptr()
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key], shared)
        if hasattr(theirs, "__dict__"):
            assert_same(vars(ours), vars(theirs), shared)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other, shared)
    elif isinstance(theirs, torch.storage.TypedStorage):
        assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()
    else:
        assert ours == theirs


def model():
    torch.manual_seed(1)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    return layers


def values():
    torch.manual_seed(2)
    base = torch.arange(24, dtype=torch.float32)
    tied = torch.randn(3, 3)
    state = model().state_dict()
    return {
        "state": state,
        "checkpoint": {
            "epoch": 3,
            "lr": 1e-3,
            "model": state,
            "names": ["a", b"bytes", None, True, 2**70, -(2**40)],
            "shape": torch.Size([2, 3]),
            "dtype": torch.bfloat16,
            "device": torch.device("cpu"),
            "pair": (1, (2, [3])),
            "counter": collections.Counter("aab"),
        },
        "shared": {"a": tied, "b": tied, "t": tied.t(), "row": tied[1], "all": tied.view(-1)},
        "strided": [base[::2], base.view(4, 6).t(), base],
        "parameters": {
            "p": torch.nn.Parameter(torch.randn(2)),
            "frozen": torch.nn.Parameter(torch.randn(2), requires_grad=False),
            "grad": torch.randn(2, requires_grad=True),
        },
        "kinds": {
            name: torch.ones(2, 2).to(getattr(torch, name))
            for name in ["bfloat16", "float16", "float64", "bool", "int8", "uint8", "int16"]
            + ["int32", "int64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"]
        },
        "sizes": [torch.tensor(1.5), torch.empty(0, 3), torch.empty(2, 0), torch.tensor([])],
        "plain": {"x": 1},
        "one": torch.arange(3),
        "optimizer": torch.optim.Adam(model().parameters()).state_dict(),
    }


@pytest.mark.parametrize("name", list(values()))
@pytest.mark.parametrize("zipped", [True, False])
def test_load_gives_what_torch_load_gives(tmp_path, name, zipped, caplog):
    path = tmp_path / "file.pt"
    if name == "kinds" and not zipped:
        pytest.skip("torch itself does not read 8-bit floats of the legacy format")
    torch.save(values()[name], path, _use_new_zipfile_serialization=zipped)
    with caplog.at_level(logging.INFO, "tensorlift"):
        ours = tensorlift.torch.load(path)
    assert_same(ours, ORIGINAL(path))
    if zipped:
        assert "goes to the original" not in caplog.text


@pytest.mark.parametrize("where", ["cpu", torch.device("cpu"), "meta", {"cpu": "cpu"}])
def test_map_locations(tmp_path, where, caplog):
    path = tmp_path / "file.pt"
    torch.save(values()["shared"], path)
    with caplog.at_level(logging.INFO, "tensorlift"):
        ours = tensorlift.torch.load(path, map_location=where)
    assert_same(ours, ORIGINAL(path, map_location=where))
    assert "goes to the original" not in caplog.text


def test_nothing_is_read_of_a_file_that_the_original_is_to_serve(tmp_path, counters):
    _, read_bytes = counters
    path = tmp_path / "own.pt"
    torch.save({"own": Own(), "weight": torch.ones(1 << 20)}, path)
    before = read_bytes()
    with pytest.raises(pickle.UnpicklingError):
        tensorlift.torch.load(path, weights_only=True)
    assert read_bytes() - before < 1 << 20


def test_what_the_original_serves(tmp_path, caplog):
    path = tmp_path / "file.pt"
    torch.save({"a": torch.ones(2)}, path)
    with caplog.at_level(logging.INFO, "tensorlift"):
        called = tensorlift.torch.load(path, lambda storage, location: storage)
        held = tensorlift.torch.load(io.BytesIO(path.read_bytes()))
        part = torch.arange(10.0)[2:4]
        torch.save(part, path)
        cut = tensorlift.torch.load(path)
    assert torch.equal(called["a"], held["a"])
    assert cut.untyped_storage().nbytes() == 40 and torch.equal(cut, part)
    assert caplog.text.count("goes to the original") == 3


class Own:
    """A class that no reader knows."""


def test_a_refused_class_raises_what_torch_raises(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"own": Own()}, path)
    with pytest.raises(pickle.UnpicklingError):
        tensorlift.torch.load(path)
    assert isinstance(tensorlift.torch.load(path, weights_only=False)["own"], Own)


def test_missing_and_broken_files_raise_what_torch_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        tensorlift.torch.load(tmp_path / "none.pt")
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(Exception) as theirs:
        ORIGINAL(broken)
    with pytest.raises(type(theirs.value)):
        tensorlift.torch.load(broken)


def check_protocol(path, error):
    """A protocol of pickles that torch's restricted reader does not know, and tensorlift does."""
    try:
        ours = tensorlift.torch.load(path, map_location="cpu", weights_only=True)
    except type(error):
        return
    assert_same(ours, ORIGINAL(path, map_location="cpu", weights_only=False))


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(FIXTURES).as_posix()
        for path in sorted(FIXTURES.rglob("*"))
        if path.suffix in (".pt", ".pth", ".bin", ".ckpt") and "regressions" not in path.parts
    ],
)
def test_every_fixture_is_the_same(path):
    path = FIXTURES / path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = ORIGINAL(path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001
            if "Unsupported operand" in str(error):
                check_protocol(path, error)
                return
            with pytest.raises(type(error)):
                tensorlift.torch.load(path, map_location="cpu", weights_only=True)
            return
        assert_same(tensorlift.torch.load(path, map_location="cpu", weights_only=True), theirs)


def test_each_tensor_is_a_storage_of_its_own(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({f"t{number}": torch.randn(100) for number in range(50)}, path)
    tensors = tensorlift.load(path, framework="torch")
    pointers = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    assert len(pointers) == 50
    for tensor in tensors.values():
        assert tensor.untyped_storage().nbytes() == 400
    saved = io.BytesIO()
    torch.save(tensors["t3"], saved)
    assert len(saved.getvalue()) < 3000


def test_tensors_behave_like_anybodys(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"w": torch.randn(8, 4), "b": torch.randn(8)}, path)
    tensors = tensorlift.load(path, framework="torch")
    layer = torch.nn.Linear(4, 8, device="meta")
    layer.load_state_dict({"weight": tensors["w"], "bias": tensors["b"]}, assign=True)
    assert layer.weight.data_ptr() == tensors["w"].data_ptr()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)
    shared = tensors["b"].share_memory_()
    assert shared.is_shared()
    grown = tensors["w"].clone().requires_grad_()
    assert grown.requires_grad
    assert torch.equal(pickle.loads(pickle.dumps(shared)), shared)


def test_memory_is_pinned_and_shared_between_processes(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"w": torch.arange(1 << 16)}, path)
    tensor = tensorlift.load(path, framework="torch")["w"]
    if torch.cuda.is_available():
        assert torch.equal(tensor.pin_memory(), tensor)
    else:
        # Without a driver, torch's own tensors say the same.
        with pytest.raises(RuntimeError) as theirs:
            torch.arange(3).pin_memory()
        with pytest.raises(type(theirs.value)):
            tensor.pin_memory()
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_add_one, args=(tensor.share_memory_(), queue))
    child.start()
    assert queue.get() == 1 << 16
    child.join()
    assert torch.equal(tensor, torch.arange(1 << 16) + 1)


def _add_one(tensor, queue):
    tensor += 1
    queue.put(tensor.numel())


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_optimisers_train_loaded_parameters(tmp_path, make):
    path = tmp_path / "file.pt"
    torch.save(model().state_dict(), path)
    ours, theirs = model(), model()
    ours.load_state_dict(tensorlift.load(path, framework="torch"), assign=True)
    theirs.load_state_dict(ORIGINAL(path), assign=True)
    for layers in (ours, theirs):
        optimiser = make(layers.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            layers(torch.ones(5, 4)).square().sum().backward()
            optimiser.step()
    assert_same(ours.state_dict(), theirs.state_dict())


def test_load_into_a_module_of_another_dtype_reads_into_place(tmp_path, counters):
    resident_bytes, _ = counters
    path = tmp_path / "file.pt"
    weights = {f"t{number}": torch.randn(1 << 20) for number in range(16)}
    torch.save(weights, path)
    target = {name: torch.zeros(1 << 20, dtype=torch.bfloat16).fill_(1) for name in weights}
    before = resident_bytes()
    tensorlift.open(path).load_into(target)
    # Not the 64 MiB of the file.
    assert resident_bytes() - before < 16 << 20
    for name, tensor in weights.items():
        assert torch.equal(target[name], tensor.to(torch.bfloat16)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_converted_while_they_are_read(tmp_path, dtype):
    path = tmp_path / "file.pt"
    weight = torch.randn(4, 6)
    saved = {
        "w": weight,
        "t": weight.t(),
        "every other": weight[:, ::2],
        "half": weight.half(),
        "i": torch.arange(3),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(1.25),
    }
    torch.save(saved, path)
    tensors = tensorlift.load(path, framework="torch", dtype=dtype)
    assert "float" not in str(tensors["i"].dtype)
    for name, tensor in saved.items():
        expected = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert tensors[name].dtype == expected.dtype, name
        assert torch.equal(tensors[name], expected), name
    with pytest.raises(tensorlift.MisuseError, match="f64 or f32 or f16 or bf16"):
        tensorlift.load(path, framework="torch", dtype=torch.float8_e4m3fn)


def test_memory_goes_back_with_tensors(tmp_path, counters):
    resident_bytes, _ = counters
    path = tmp_path / "file.pt"
    torch.save({f"t{number}": torch.full((1 << 20,), float(number)) for number in range(64)}, path)
    gc.collect()
    before = resident_bytes()
    tensors = tensorlift.load(path, framework="torch")
    assert resident_bytes() - before > 250 << 20
    last = tensors["t33"]
    del tensors
    gc.collect()
    assert resident_bytes() - before < 24 << 20
    assert bool((last == 33).all())


def test_dtype_and_names(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"f": torch.ones(3), "i": torch.arange(3)}, path)
    tensors = tensorlift.load(path, framework="torch", dtype=torch.bfloat16)
    assert (tensors["f"].dtype, tensors["i"].dtype) == (torch.bfloat16, torch.int64)


def test_state_without_torch(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(values()["checkpoint"] | {"own": Own()}, path)
    checkpoint = tensorlift.open(path)
    state = checkpoint.state()
    assert (state["epoch"], state["lr"], state["pair"]) == (3, 1e-3, (1, (2, [3])))
    assert state["names"] == ["a", b"bytes", None, True, 2**70, -(2**40)]
    assert isinstance(state["model"], collections.OrderedDict)
    assert state["model"]._metadata == model().state_dict()._metadata
    assert state["model"]["0.weight"] == "model.0.weight" in checkpoint
    assert state["own"].cls.endswith(".Own")


def test_load_into_a_module(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(model().state_dict() | {"extra": torch.ones(1)}, path)
    expected = model().state_dict()
    target = model()
    for parameter in target.parameters():
        parameter.data.zero_()
    addresses = [parameter.data_ptr() for parameter in target.parameters()]
    filled = tensorlift.open(path).load_into(target)
    assert [parameter.data_ptr() for parameter in target.parameters()] == addresses
    assert (filled.missing, filled.unexpected) == ([], ["extra"])
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_load_into_a_module_on_meta(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(model().state_dict(), path)
    with torch.device("meta"):
        target = model()
    tensorlift.open(path).load_into(target)
    assert not any(parameter.is_meta for parameter in target.parameters())
    assert torch.equal(target[0].weight, model()[0].weight)
    assert isinstance(target[0].weight, torch.nn.Parameter) and target[0].weight.requires_grad


def test_load_into_refuses_before_it_writes(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(model().state_dict(), path)
    target = {name: tensor.clone() for name, tensor in model().state_dict().items()}
    target["0.weight"] = torch.zeros(7, 7)
    target["0.bias"].zero_()
    with pytest.raises(tensorlift.MisuseError, match="0.weight"):
        tensorlift.open(path).load_into(target)
    assert bool((target["0.bias"] == 0).all())


def test_weak_references(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"a": torch.ones(2)}, path)
    tensors = tensorlift.load(path, framework="torch")
    reference = weakref.ref(tensors["a"])
    del tensors
    gc.collect()
    assert reference() is None


def test_the_package_has_torch_load_without_an_import_of_its_own(monkeypatch):
    monkeypatch.delattr(tensorlift, "torch")
    assert tensorlift.torch is sys.modules["tensorlift.torch"]
