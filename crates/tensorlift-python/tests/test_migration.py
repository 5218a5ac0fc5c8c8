"""Every line of the table in README.md is run, on both sides."""

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.transformers
README = Path(__file__).resolve().parents[1] / "README.md"


def lines():
    cells = re.findall(r"^\| `(.+)` \| `(.+)` \|$", README.read_text(), re.MULTILINE)
    assert len(cells) == 9
    return [(theirs, ours) for theirs, ours in cells if "cuda" not in ours]


@pytest.fixture
def names(tmp_path, monkeypatch):
    import accelerate
    import safetensors.numpy
    import safetensors.torch
    import tensorlift
    import transformers

    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(2)}, "model.bin")
    torch.save({"epoch": 3, "w": torch.ones(2)}, "train.pt")
    safetensors.torch.save_file({"w": torch.ones(2)}, "model.safetensors", {"format": "pt"})
    config = transformers.BertConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    transformers.BertModel(config).save_pretrained("folder")
    with accelerate.init_empty_weights():
        empty = transformers.BertModel(config)
    return {
        "accelerate": accelerate,
        "empty": empty,
        "safetensors": safetensors,
        "tensorlift": tensorlift,
        "torch": torch,
        "transformers": transformers,
    }


@pytest.mark.parametrize("theirs, ours", lines())
def test_a_line(names, theirs, ours):
    before, separator, call = ours.rpartition(": ")
    if separator and before.startswith("with "):
        exec(f"{before}:\n    result = {call}", names)
    else:
        names["result"] = eval(ours, names)
    result = names.pop("result")
    expected = eval(theirs, names)
    if isinstance(expected, torch.nn.Module):
        found = names["empty"] if "empty" in ours else result
        for name, parameter in expected.named_parameters():
            assert torch.equal(parameter, dict(found.named_parameters())[name])
    elif isinstance(expected, dict):
        assert list(result) == list(expected)
    else:
        assert (result == expected) is True or bool((result == expected).all())
