"""One measured process: loads one checkpoint into host memory with one Python engine, once.

    engines.py ENGINE PATH [--prime BYTES]

Imports come before the clock; the last line printed is what benches/protocol calls an outcome.
"""

import os
import pathlib
import shutil
import tempfile
import time

import torch

import measured


def safetensors_clone(files):
    """load_file maps the file; a clone is in memory of its own."""
    tensors = {}
    for file in files:
        for name, tensor in safetensors.torch.load_file(file).items():
            tensors[name] = tensor.clone()
    return tensors


def run_ai(files):
    """Tensors that the streamer yields belong to the caller."""
    with runai_model_streamer.SafetensorsStreamer() as streamer:
        streamer.stream_files([str(file) for file in files])
        return dict(streamer.get_tensors())


def fast(files):
    with fastsafetensors.fastsafe_open([str(file) for file in files], nogds=True) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


def torch_load(files):
    tensors = {}
    for file in files:
        tensors.update(torch.load(file, weights_only=True))
    return tensors


def torch_mmap_clone(files):
    tensors = {}
    for file in files:
        for name, tensor in torch.load(file, mmap=True, weights_only=True).items():
            tensors[name] = tensor.clone()
    return tensors


def tensorlift_by(framework):
    def load(files):
        return tensorlift.load(files, framework=framework)

    return load


def config_of(files):
    """The configuration of a model of these tensors, by their names and shapes."""
    shapes = {}
    for file in files:
        with safetensors.safe_open(file, "pt") as opened:
            shapes.update((name, opened.get_slice(name).get_shape()) for name in opened.keys())
    layers = 1 + max(int(name.split("layer")[1].split(".")[1]) for name in shapes if "layer" in name)
    if "embeddings.word_embeddings.weight" in shapes:
        vocabulary, hidden = shapes["embeddings.word_embeddings.weight"]
        return transformers.BertConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=12,
            intermediate_size=shapes["encoder.layer.0.intermediate.dense.weight"][0],
            max_position_embeddings=shapes["embeddings.position_embeddings.weight"][0],
            architectures=["BertModel"],
            dtype="float32",
        )
    vocabulary, hidden = shapes["model.embed_tokens.weight"]
    narrow = shapes["model.layers.0.self_attn.k_proj.weight"][0]
    head = min(128, narrow)
    return transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // head,
        num_key_value_heads=narrow // head,
        head_dim=head,
        intermediate_size=shapes["model.layers.0.mlp.gate_proj.weight"][0],
        architectures=["LlamaForCausalLM"],
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def model_folder(files):
    """A folder as transformers wants it: links to the files, and a configuration."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tensorlift-bench-"))
    for file in [*files, *files[0].parent.glob("*.index.json")]:
        name = "model.safetensors" if len(files) == 1 and file in files else file.name
        (folder / name).symlink_to(file.absolute())
    config_of(files).save_pretrained(folder)
    return folder


def class_of(folder):
    """The class of a model, whose code is imported when it is first named."""
    config = transformers.AutoConfig.from_pretrained(folder)
    return config, getattr(transformers, config.architectures[0])


def from_pretrained(folder):
    _, kind = class_of(folder)
    return kind.from_pretrained(folder, dtype="auto")


def dispatch(folder):
    config, kind = class_of(folder)
    with accelerate.init_empty_weights():
        model = kind(config)
    return accelerate.load_checkpoint_and_dispatch(model, folder, device_map={"": "cpu"}, dtype=config.dtype)


def tensors_of(model, files):
    """The tensors of a model, and the one of the files that BERT makes itself."""
    tensors = dict(model.state_dict())
    for file in files:
        with safetensors.safe_open(file, "pt") as opened:
            if "embeddings.position_ids" in opened.keys():
                tensors["embeddings.position_ids"] = opened.get_tensor("embeddings.position_ids")
    return tensors


def touched(load):
    """Loads, then reads a byte of each page: both hand out mappings, whose pages come when they are read."""

    def load_and_touch(folder):
        model = load(folder)
        for tensor in model.state_dict().values():
            tensor.reshape(-1).view(torch.uint8)[::4096].sum()
        return model

    return load_and_touch


# What takes a model's folder and gives a model.
MODELS = {"transformers": touched(from_pretrained), "accelerate": touched(dispatch)}

ENGINES = {
    "tensorlift-torch": tensorlift_by("torch"),
    "tensorlift-numpy": tensorlift_by("numpy"),
    "safetensors-clone": safetensors_clone,
    "fastsafetensors": fast,
    "runai-16": run_ai,
    "torch-load": torch_load,
    "torch-mmap-clone": torch_mmap_clone,
}


def main(engine, files, prime_bytes):
    load, source = ENGINES.get(engine), files
    if engine in MODELS:
        load, source = MODELS[engine], model_folder(files)
        class_of(source)
    measured.prime(prime_bytes)
    before, _ = measured.memory()
    start = time.perf_counter()
    tensors = load(source)
    seconds = time.perf_counter() - start
    _, peak = measured.memory()
    if engine in MODELS:
        shutil.rmtree(source)
        tensors = tensors_of(tensors, files)
    measured.answer(
        {
            "seconds": seconds,
            "resident_before": before,
            "resident_peak": peak,
            "checksum": measured.checksum(tensors),
        }
    )


if __name__ == "__main__":
    engine, files, prime_bytes = measured.request()
    if engine.startswith("tensorlift"):
        import tensorlift
    elif engine.startswith("safetensors"):
        import safetensors.torch
    elif engine == "fastsafetensors":
        import fastsafetensors
    elif engine in MODELS:
        import safetensors
        import transformers

        if engine == "accelerate":
            import accelerate
    elif engine.startswith("runai"):
        os.environ["RUNAI_STREAMER_CONCURRENCY"] = engine.partition("-")[2]
        import runai_model_streamer
    main(engine, files, prime_bytes)
