"""Settings: the facade's table and nothing beside it, from the environment and from the program."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorlift

PAGE = Path(__file__).resolve().parents[2] / "tensorlift/src/settings/mod.rs"


@pytest.fixture(autouse=True)
def taken_back():
    yield
    tensorlift.configure(**dict.fromkeys(tensorlift.settings()))


def in_a_process(code, **environment):
    """What a fresh interpreter prints as JSON, and the last line of its errors."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import json, tensorlift\n{code}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(ended.stdout) if ended.stdout else None
    return found, (ended.stderr.splitlines() or [""])[-1]


def test_the_list_is_the_facades():
    table = PAGE.read_text().split("Other names for the same")[0]
    variables = set(re.findall(r"^//! \| `(TENSORLIFT_\w+)`", table, re.MULTILINE))
    of_patch = {name for name in tensorlift.settings() if name.startswith("patch")}
    shown = str(tensorlift.settings())
    assert len(variables) == len(tensorlift.settings()) - len(of_patch) > 10
    for variable in variables:
        name = variable.removeprefix("TENSORLIFT_").lower()
        assert name in tensorlift.settings() and variable in shown


def test_the_environment_is_read_when_the_package_is_imported():
    code = "print(json.dumps(dict(tensorlift.settings())))"
    found, _ = in_a_process(
        code, TENSORLIFT_MMAP="1", TENSORLIFT_MEMORY="2GiB", TENSORLIFT_PATCH_TORCH_LOAD="off"
    )
    assert (found["mode"], found["memory_bytes"]) == ("map", "2gib")
    assert (found["patch_torch_load"], found["reader"], found["patch"]) == ("false", None, None)


@pytest.mark.parametrize(
    "variable, value, told",
    [
        ("TENSORLIFT_READER", "fast", "auto or buffered or direct or uring"),
        ("TENSORLIFT_THREADS", "0", "a number from 1 on"),
        ("TENSORLIFT_PATCH", "so-so", "true or false"),
    ],
)
def test_a_value_that_there_is_not_is_refused(variable, value, told):
    found, error = in_a_process("print(1)", **{variable: value})
    assert found is None
    assert f'MisuseError: {variable}="{value}" (expected {told})' in error


def test_a_call_comes_before_the_program_and_the_program_before_nothing(many):
    path, _ = many
    tensorlift.configure(reader="buffered", threads=2)
    named = {it["name"]: (it["value"], it["source"]) for it in load_report(path)["settings"]}
    assert named == {"reader": ("buffered", "reader"), "threads": ("2", "threads")}
    named = {it["name"]: it["value"] for it in load_report(path, threads=1)["settings"]}
    assert named == {"reader": "buffered", "threads": "1"}
    tensorlift.configure(reader=None)
    assert tensorlift.settings()["reader"] is None
    assert tensorlift.settings()["threads"] == "2"


def test_reports_of_load_into_list_the_settings(many):
    path, arrays = many
    tensorlift.configure(reader="buffered")
    # One is filled in place, and one from a load.
    row_major = {name: array.copy() for name, array in arrays.items()}
    strided = {name: array.T.copy().T for name, array in arrays.items()}
    for target in (row_major, strided):
        report = tensorlift.open(path).load_into(target, threads=2).report
        named = {it["name"]: (it["value"], it["source"]) for it in report["settings"]}
        assert named == {"reader": ("buffered", "reader"), "threads": ("2", "threads")}


def load_report(path, **options):
    return tensorlift.load(path, **options).report


def test_settings_of_memory_dtype_and_device_count(many):
    path, _ = many
    tensorlift.configure(memory_bytes=1 << 20)
    with pytest.raises(tensorlift.LimitExceededError):
        tensorlift.load(path)
    tensorlift.configure(memory_bytes="1GiB", dtype="f16", device="host")
    assert tensorlift.load(path)["layers.0.bias"].dtype == "float16"
    assert tensorlift.load(path, dtype="keep")["layers.0.bias"].dtype == "float32"
    tensorlift.configure(device="null")
    with pytest.raises(tensorlift.MisuseError, match="null"):
        tensorlift.load(path)


def test_drop_ins_return_what_the_originals_return(many):
    from tensorlift.safetensors.numpy import load_file

    path, arrays = many
    tensorlift.configure(dtype="f16", mode="map")
    found = load_file(path)["layers.0.bias"]
    assert found.dtype == "float32" and found.flags.writeable
    assert (found == arrays["layers.0.bias"]).all()


def test_unknown_settings_are_refused_and_change_nothing():
    with pytest.raises(tensorlift.MisuseError, match="memory_bytes"):
        tensorlift.configure(threads=3, memory=1)
    with pytest.raises(tensorlift.MisuseError, match="expected auto or buffered"):
        tensorlift.configure(threads=3, reader="fast")
    assert tensorlift.settings()["threads"] is None


def test_ceilings_for_untrusted_files_are_set_by_name(many):
    path, _ = many
    with pytest.raises(tensorlift.LimitExceededError):
        tensorlift.open(path, limits={"tensors": 100})
    assert len(tensorlift.open(path, limits={"tensors": 200})) == 200
    with pytest.raises(tensorlift.MisuseError, match="name_bytes"):
        tensorlift.open(path, limits={"names": 1})
