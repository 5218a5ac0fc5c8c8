"""The loader for vLLM under the base class of the released vLLM, whose imports are stubbed.

`fetch.py` brings it; `TENSORLIFT_VLLM` names the folder. `cargo xtask python-tests vllm` does both.
"""

import contextlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import tensorlift.vllm  # noqa: E402

FOLDER = os.environ.get("TENSORLIFT_VLLM")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="TENSORLIFT_VLLM names no folder")


#: How many ranks the stub of vLLM tells.
RANKS = {"tensors": 1, "layers": 1}


class Anything:
    """Replaces whatever is imported and not used."""

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        return Anything()

    def __call__(self, *arguments, **_):
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else Anything()

    def __bool__(self):
        return False


def anything(name):
    # What Python itself asks a module, such as `__file__`, a stub does not have.
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything()


def stub(name, **values):
    module = types.ModuleType(name)
    module.__path__ = []
    module.__getattr__ = anything
    vars(module).update(values)
    sys.modules[name] = module


@pytest.fixture
def base(monkeypatch):
    """`BaseModelLoader` of the released vLLM."""
    before = dict(sys.modules)
    registered = {}
    for name in [
        "vllm",
        "vllm.envs",
        "vllm.config",
        "vllm.config.load",
        "vllm.logger",
        "vllm.model_executor",
        "vllm.model_executor.model_loader.reload",
        "vllm.platforms",
        "vllm.utils",
        "vllm.utils.mem_utils",
    ]:
        stub(name)
    layers = "vllm.model_executor.layers"
    for name in [layers, f"{layers}.quantization", f"{layers}.quantization.online"]:
        stub(name)
    stub(f"{layers}.quantization.online.base", OnlineQuantizationConfig=type("None_", (), {}))
    stub(
        "vllm.model_executor.model_loader",
        register_model_loader=lambda name: lambda cls: registered.setdefault(name, cls),
    )
    stub(
        "vllm.model_executor.model_loader.utils",
        initialize_model=lambda vllm_config, **_: vllm_config.make(),
        process_weights_after_loading=lambda *_: None,
    )
    stub("vllm.tracing", instrument=lambda **_: lambda function: function)
    stub(
        "vllm.distributed",
        get_tensor_model_parallel_world_size=lambda: RANKS["tensors"],
        get_pp_group=lambda: types.SimpleNamespace(world_size=RANKS["layers"]),
    )
    stub(
        "vllm.utils.torch_utils",
        set_default_torch_dtype=lambda dtype: contextlib.nullcontext(),
    )
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: None)
    path = Path(FOLDER) / "vllm/model_executor/model_loader/base_loader.py"
    name = "vllm.model_executor.model_loader.base_loader"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    tensorlift.vllm.register()
    yield registered
    for name in set(sys.modules) - set(before):
        if name.partition(".")[0] == "vllm":
            del sys.modules[name]


class Model(torch.nn.Module):
    """Takes weights as vLLM's models do: each parameter copies what it wants of them."""

    def __init__(self, rank=0, ranks=1):
        super().__init__()
        self.up = torch.nn.Parameter(torch.zeros(64 // ranks, 32))
        self.norm = torch.nn.Parameter(torch.zeros(32))
        self.rank, self.ranks = rank, ranks
        self.names = []

    def load_weights(self, weights):
        parameters = dict(self.named_parameters())
        for name, tensor in weights:
            self.names.append(name)
            parameter = parameters[name]
            if tensor.shape != parameter.shape:
                size = tensor.shape[0] // self.ranks
                tensor = tensor.narrow(0, self.rank * size, size)
            parameter.data.copy_(tensor)


def config(folder, **extra):
    load = types.SimpleNamespace(
        model_loader_extra_config=extra, download_dir=None, device=None, load_format="tensorlift"
    )
    model = types.SimpleNamespace(model=str(folder), revision=None, dtype=torch.float32)
    return load, model


@pytest.fixture
def folder(tmp_path):
    from tensorlift.safetensors.torch import save_file

    torch.manual_seed(5)
    weights = {"norm": torch.randn(32), "up": torch.randn(64, 32)}
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path, weights


def test_it_registers(base):
    assert list(base) == ["tensorlift"]


def test_load_model_and_a_second_load_into_the_same_memory(base, folder):
    path, weights = folder
    load, model_config = config(path)
    loader = base["tensorlift"](load)
    loader.download_model(model_config)
    vllm_config = types.SimpleNamespace(
        device_config=types.SimpleNamespace(device="cpu"),
        load_config=load,
        make=Model,
        quant_config=None,
    )
    model = loader.load_model(vllm_config, model_config)
    assert torch.equal(model.up, weights["up"]) and torch.equal(model.norm, weights["norm"])
    assert sorted(model.names) == ["norm", "up"]
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    model.up.data.zero_()
    loader.load_weights(model, model_config)
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    assert torch.equal(model.up, weights["up"])


class Parallel(torch.nn.Module):
    """Takes its rank's share of each weight by the calls that vLLM's layers make."""

    def __init__(self, rank, ranks):
        super().__init__()
        self.rank, self.ranks = rank, ranks
        self.columns = torch.nn.Parameter(torch.zeros(1024, 2048 // ranks))
        self.rows = torch.nn.Parameter(torch.zeros(4096 // ranks, 512))
        self.fused = torch.nn.Parameter(torch.zeros(2, 512 // ranks, 512))
        self.norm = torch.nn.Parameter(torch.zeros(512))
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def load_weights(self, weights):
        for name, loaded in weights:
            assert isinstance(loaded, torch.Tensor)
            match name:
                case "rows":
                    size = loaded.shape[0] // self.ranks
                    taken = loaded.narrow(0, self.rank * size, size)
                    assert taken.shape == self.rows.shape
                    self.rows.data.copy_(taken)
                case "columns":
                    self.columns.data.copy_(loaded.chunk(self.ranks, dim=1)[self.rank])
                case "fused.0" | "fused.1":
                    size = loaded.size(0) // self.ranks
                    taken = loaded[self.rank * size : (self.rank + 1) * size]
                    self.fused.data[int(name[-1])].copy_(taken)
                case "norm":
                    self.norm.data.copy_(loaded.data.to(torch.float32))
                case "scale":
                    self.scale.data.fill_(loaded.item())
                case "experts":
                    # Of another rank's layers.
                    pass


@pytest.fixture
def parallel(tmp_path):
    from tensorlift.safetensors.torch import save_file

    torch.manual_seed(6)
    weights = {
        "columns": torch.randn(1024, 2048),
        "experts": torch.randn(1 << 20),
        "fused.0": torch.randn(512, 512),
        "fused.1": torch.randn(512, 512),
        "norm": torch.randn(512),
        "rows": torch.randn(4096, 512),
        "scale": torch.randn(()),
    }
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path, weights


def test_two_ranks_read_what_they_need(base, parallel, monkeypatch, counters):
    # torch imports it with the first operation on a subclass; what is counted is the load's.
    import torch.distributed.tensor  # noqa: F401

    _, read_bytes = counters
    path, weights = parallel
    monkeypatch.setitem(RANKS, "tensors", 2)
    models = []
    for rank in range(2):
        load, model_config = config(path)
        model = Parallel(rank, 2)
        before = read_bytes()
        base["tensorlift"](load).load_weights(model, model_config)
        read = read_bytes() - before
        models.append(model)
        # Rows are read by shares; a share of columns is read with what lies between them.
        halves = sum(weights[name].nbytes for name in ("rows", "fused.0", "fused.1")) // 2
        whole = weights["columns"].nbytes + weights["norm"].nbytes + weights["scale"].nbytes
        assert 0 <= read - halves - whole < 200_000
    one, other = models
    assert torch.equal(torch.cat([one.rows, other.rows]), weights["rows"])
    assert torch.equal(torch.cat([one.columns, other.columns], 1), weights["columns"])
    fused = torch.cat([one.fused, other.fused], 1)
    assert torch.equal(fused, torch.stack([weights["fused.0"], weights["fused.1"]]))
    for model in models:
        assert torch.equal(model.norm, weights["norm"])
        assert torch.equal(model.scale[0], weights["scale"])


def test_ranks_may_read_everything(base, parallel, monkeypatch):
    path, weights = parallel
    monkeypatch.setitem(RANKS, "layers", 2)
    load, model_config = config(path, shares=False)
    model = Parallel(0, 1)
    base["tensorlift"](load).load_weights(model, model_config)
    assert torch.equal(model.rows, weights["rows"])
    assert torch.equal(model.columns, weights["columns"])


def test_a_share_behaves_as_its_tensor(parallel):
    from tensorlift._share import Share

    path, weights = parallel
    rows = weights["rows"]

    def share():
        return Share.of(tensorlift.open(path), "rows", "cpu")

    assert repr(share()) == "<tensorlift share of 'rows', shape [4096, 512]>"
    for take in [
        lambda tensor: tensor[3],
        lambda tensor: tensor[-2, 5:9],
        lambda tensor: tensor[2:10:3, ..., -4:],
        lambda tensor: tensor.narrow(1, 7, 3).t(),
        lambda tensor: tensor.split(1000)[4],
        lambda tensor: tensor.chunk(3, -1)[2].contiguous(),
        lambda tensor: tensor[5:5],
        lambda tensor: tensor.view(-1)[-3:] + 1,
        lambda tensor: tensor.unbind(1)[0],
        lambda tensor: torch.cat([tensor[:2], tensor[4:5]]),
        lambda tensor: tensor.detach().to(torch.bfloat16),
    ]:
        assert torch.equal(torch.zeros(()) + take(share()), torch.zeros(()) + take(rows))
    assert share()[1].tolist() == rows[1].tolist()
    assert share()[0, 0].item() == rows[0, 0].item()
    assert (share()[2].numpy() == rows[2].numpy()).all()
    whole = share()
    assert whole.data_ptr() == whole.read().data_ptr()


def test_a_small_window_gives_the_same(base, folder):
    path, weights = folder
    load, model_config = config(path, window_bytes=1)
    model = Model()
    base["tensorlift"](load).load_weights(model, model_config)
    assert torch.equal(model.up, weights["up"])


def test_unknown_options_are_refused(base, folder):
    load, _ = config(folder[0], windows=1)
    with pytest.raises(ValueError, match="windows"):
        base["tensorlift"](load)
