"""transformers and accelerate under `patch()`: equal parameters and outputs, calls counted.

`TENSORLIFT_MINILM` names a folder with all-MiniLM-L6-v2 for the test of a real model.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tensorlift  # noqa: E402

pytestmark = pytest.mark.transformers


def assert_equal_models(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name


def served(patched, name):
    return patched.counts[name, "tensorlift"]


@pytest.fixture
def llama(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(3)
    return transformers.LlamaForCausalLM(config), tmp_path / "llama"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sharded_llama(llama, dtype):
    model, folder = llama
    model.save_pretrained(folder, max_shard_size="100KB")
    assert (folder / "model.safetensors.index.json").exists()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    with tensorlift.patch() as patched:
        before = served(patched, "safe_open")
        ours = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        shards = len(list(folder.glob("*.safetensors")))
        assert served(patched, "safe_open") - before >= shards > 1
    assert_equal_models(ours, theirs)
    tokens = torch.arange(12).view(1, 12)
    with torch.no_grad():
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)


def test_a_llama_in_a_bin(llama):
    model, folder = llama
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with tensorlift.patch() as patched:
        before = served(patched, "torch_load")
        ours = transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert served(patched, "torch_load") - before >= 1
    assert_equal_models(ours, theirs)


def test_accelerate_loads_into_a_model_without_memory(llama):
    accelerate = pytest.importorskip("accelerate")
    model, folder = llama
    model.save_pretrained(folder, max_shard_size="100KB")
    with accelerate.init_empty_weights():
        empty = transformers.LlamaForCausalLM(model.config)
    with tensorlift.patch() as patched:
        before = patched.counts.total()
        ours = accelerate.load_checkpoint_and_dispatch(empty, folder, device_map={"": "cpu"})
        assert patched.counts.total() > before
        assert not any(who == "original" for _, who in +patched.counts)
    for name, tensor in model.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_native_loading_into_a_model_without_memory(llama):
    model, folder = llama
    model.save_pretrained(folder, max_shard_size="100KB")
    with torch.device("meta"):
        empty = transformers.LlamaForCausalLM(model.config)
    filled = tensorlift.open(folder).load_into(empty)
    assert not filled.missing and not filled.unexpected
    assert_equal_models(empty, model)


@pytest.mark.skipif("TENSORLIFT_MINILM" not in os.environ, reason="names no folder")
def test_minilm():
    folder = os.environ["TENSORLIFT_MINILM"]
    theirs = transformers.AutoModel.from_pretrained(folder)
    with tensorlift.patch() as patched:
        before = served(patched, "safe_open")
        ours = transformers.AutoModel.from_pretrained(folder)
        assert served(patched, "safe_open") > before
    assert_equal_models(ours, theirs)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["a text", "another one"], return_tensors="pt")
    with torch.no_grad():
        one, other = ours(**batch).last_hidden_state, theirs(**batch).last_hidden_state
    assert torch.equal(one, other)


def test_a_loaded_model_is_saved_as_without_tensorlift(llama, tmp_path):
    model, folder = llama
    model.save_pretrained(folder, max_shard_size="100KB")

    def saved(name):
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
        loaded.save_pretrained(tmp_path / name, max_shard_size="100KB")
        files = sorted((tmp_path / name).glob("*.safetensors"))
        return {file.name: file.read_bytes() for file in files}

    theirs = saved("theirs")
    with tensorlift.patch():
        ours = saved("ours")
    assert ours == theirs and len(ours) > 1


def test_diffusers(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(4)
    model = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    model.save_pretrained(tmp_path)
    with tensorlift.patch() as patched:
        before = patched.counts.copy()
        ours = diffusers.UNet2DModel.from_pretrained(tmp_path)
        assert (patched.counts - before).total() > 0
        assert not any(who == "original" for _, who in patched.counts - before)
    assert_equal_models(ours, model)
    noise = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(ours.eval()(noise, 1).sample, model.eval()(noise, 1).sample)


@pytest.mark.skipif("TENSORLIFT_MINILM" not in os.environ, reason="names no folder")
def test_sentence_transformers():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = os.environ["TENSORLIFT_MINILM"]
    theirs = sentence_transformers.SentenceTransformer(folder, device="cpu")
    with tensorlift.patch() as patched:
        before = served(patched, "safe_open")
        ours = sentence_transformers.SentenceTransformer(folder, device="cpu")
        assert served(patched, "safe_open") > before
    texts = ["a text", "another one"]
    assert (ours.encode(texts) == theirs.encode(texts)).all()


@pytest.mark.skipif("TENSORLIFT_MINILM" not in os.environ, reason="names no folder")
def test_the_example_of_a_service_gives_the_same_by_every_loader():
    example = Path(__file__).resolve().parents[1] / "examples/embeddings_wrapper.py"
    command = [sys.executable, str(example), os.environ["TENSORLIFT_MINILM"]]

    def run(loader, *arguments):
        environment = {**os.environ, "EMBEDDINGS_LOADER": loader}
        return json.loads(subprocess.check_output([*command, *arguments], env=environment))

    plain = run("plain", "a text", "another one", "--json")
    assert run("patched", "a text", "another one", "--json") == plain
    assert run("native", "a text", "another one", "--json") == plain
    metrics = run("native", "--metrics")
    assert metrics["passed_over"] == []
    # One copy of the weights, and nothing beside it that counts.
    added = metrics["ready"]["anonymous_bytes"] - metrics["imported"]["anonymous_bytes"]
    assert metrics["weights_bytes"] < added < 1.5 * metrics["weights_bytes"]
