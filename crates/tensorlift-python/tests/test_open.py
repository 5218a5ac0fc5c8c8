"""Opening, entries, plans, errors: no tensor is loaded."""

import doctest
import importlib
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import tensorlift


def test_a_checkpoint_is_a_mapping_of_entries(many):
    path, arrays = many
    checkpoint = tensorlift.open(path)
    assert list(checkpoint) == list(arrays)
    assert len(checkpoint) == len(arrays)
    assert "layers.0.weight" in checkpoint and "nope" not in checkpoint
    assert checkpoint.metadata == {"made": "here"}
    assert checkpoint.files == [str(path)]
    entry = checkpoint["layers.3.weight"]
    assert (entry.dtype, entry.shape, entry.strides) == ("F32", (11, 4096), None)
    assert entry.nbytes == arrays["layers.3.weight"].nbytes
    start, end = entry.extent
    assert path.read_bytes()[start:end] == arrays["layers.3.weight"].tobytes()
    assert checkpoint.entries()[3] == entry


def test_opening_reads_the_header_alone(many, counters):
    path, _ = many
    _, read_bytes = counters
    before = read_bytes()
    checkpoint = tensorlift.open(path)
    assert len(checkpoint.entries()) == 200
    assert read_bytes() - before < 200_000


def test_a_missing_tensor_is_a_key_error_that_says_where(many):
    path, _ = many
    with pytest.raises(KeyError) as caught:
        tensorlift.open(path)["nope"]
    error = caught.value
    assert isinstance(error, tensorlift.NotFoundError)
    assert (error.path, error.tensor) == (str(path), "nope")
    assert "nope" in str(error)


def test_a_missing_file_is_a_file_not_found_error():
    with pytest.raises(FileNotFoundError) as caught:
        tensorlift.open("/nowhere/model.safetensors")
    assert isinstance(caught.value, tensorlift.NotFoundError)
    assert caught.value.remedy


def test_a_broken_file_is_refused_with_its_path(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes((50).to_bytes(8, "little") + b'{"a": ')
    with pytest.raises(tensorlift.MalformedError) as caught:
        tensorlift.open(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


def test_errors_survive_pickling():
    error = tensorlift.MalformedError("text", path="p", tensor="t", extent=(1, 2), remedy="r")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is tensorlift.MalformedError
    assert (str(back), back.path, back.tensor, back.extent, back.remedy) == (
        "text",
        "p",
        "t",
        (1, 2),
        "r",
    )


def test_a_plan_tells_what_a_load_would_read(many):
    path, arrays = many
    plan = tensorlift.open(path).plan(select="layers.0.*")
    wanted = arrays["layers.0.weight"].nbytes + arrays["layers.0.bias"].nbytes
    assert plan["bytes_wanted"] == wanted
    assert len(plan["places"]) == 2


def test_every_hostile_fixture_is_refused_by_a_typed_error(fixtures):
    refused = 0
    for path in sorted((fixtures / "regressions").rglob("*")):
        if not path.is_file() or path.suffix == ".md":
            continue
        try:
            tensorlift.open(path).load()
        except tensorlift.Error as error:
            refused += 1
            assert str(error)
    assert refused > 0


REFUSALS = Path(__file__).resolve().parents[3] / "fixtures/refusals.json"


@pytest.mark.parametrize("row", json.loads(REFUSALS.read_text()), ids=lambda row: row["file"])
def test_broken_files_are_refused_in_the_words_of_the_command_line(row, tmp_path):
    # The command line's own tests hold it to the same table.
    path = tmp_path / row["file"]
    path.write_bytes(bytes.fromhex(row["hex"]))
    with pytest.raises(tensorlift.Error) as caught:
        tensorlift.open(path).load()
    assert str(caught.value).replace(str(path), "PATH") == row["error"]


def test_open_takes_a_folder(fixtures):
    checkpoint = tensorlift.open(fixtures / "tiny-model")
    assert [os.path.basename(file) for file in checkpoint.files] == ["model.safetensors"]


def test_several_files_are_one_checkpoint(tmp_path):
    import numpy as np
    from conftest import write_safetensors

    one = write_safetensors(tmp_path / "one.safetensors", {"a": np.ones(2, np.float32)})
    two = write_safetensors(tmp_path / "two.safetensors", {"b": np.zeros(3, np.float32)})
    checkpoint = tensorlift.open([one, two])
    assert list(checkpoint) == ["a", "b"] and checkpoint.files == [str(one), str(two)]
    tensors = checkpoint.load()
    assert tensors["a"].tolist() == [1, 1] and tensors["b"].tolist() == [0, 0, 0]
    with pytest.raises(tensorlift.MisuseError):
        tensorlift.open([one, one])
    with pytest.raises(tensorlift.MisuseError):
        tensorlift.open([])


@pytest.mark.parametrize("path", [3, None, b"model.safetensors", ["model.safetensors", 3]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(tensorlift.MisuseError, match="expected a path"):
        tensorlift.open(path)


@pytest.mark.parametrize("module", ["_checkpoint", "_patch", "_settings"])
def test_the_examples_of_the_pages_run(module, fixtures, monkeypatch):
    monkeypatch.chdir(fixtures.parent)
    found = doctest.testmod(importlib.import_module(f"tensorlift.{module}"))
    assert found.attempted > 0 and found.failed == 0


def test_the_example_of_the_readme_runs(fixtures, monkeypatch):
    monkeypatch.chdir(fixtures.parent)
    page = (fixtures.parent / "crates/tensorlift-python/README.md").read_text()
    example = re.search(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    lines = [line for line in example.splitlines() if not line.endswith("# needs torch")]
    assert len(lines) == len(example.splitlines()) - 1
    names = {}
    exec("\n".join(lines), names)
    assert len(names["tensors"]) == 40 and len(names["half"]) > 0


@pytest.mark.parametrize(
    "arguments, told",
    [
        ({"root": 3}, "root=3 \\(expected a text"),
        ({"variant": 3}, "variant=3 \\(expected a text"),
        ({"strict": "yes"}, "strict='yes' \\(expected True or False"),
        ({"limits": 3}, "limits=3 \\(expected a dict"),
        ({"limits": {"tensors": -3}}, "expected a dict from names to numbers"),
    ],
)
def test_wrong_options_are_refused_by_name(many, arguments, told):
    path, _ = many
    with pytest.raises(tensorlift.MisuseError, match=told):
        tensorlift.open(path, **arguments)
