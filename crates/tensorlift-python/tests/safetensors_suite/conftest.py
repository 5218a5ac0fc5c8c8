"""Runs safetensors' own Python tests over `tensorlift.safetensors`.

`fetch.py` brings the tests; this file is copied beside them.
"""

import sys

import pytest
import tensorlift.safetensors
import tensorlift.safetensors.numpy

# The original has been imported by now, and stays reachable for tensorlift. Its native part keeps
# its name: it is the home of the exception.
for name in [name for name in sys.modules if name.split(".")[0] == "safetensors"]:
    if name != "safetensors._safetensors_rust":
        del sys.modules[name]
sys.modules["safetensors"] = tensorlift.safetensors
sys.modules["safetensors.numpy"] = tensorlift.safetensors.numpy
try:
    import tensorlift.safetensors.torch
except ImportError:
    pass
else:
    sys.modules["safetensors.torch"] = tensorlift.safetensors.torch

#: Frameworks that tensorlift leaves to the original.
collect_ignore_glob = ["*flax*", "*mlx*", "*paddle*", "*tf_comparison*"]

#: Tests that do not pass, each with the reason; at most five.
KNOWN: dict[str, str] = {}


def pytest_collection_modifyitems(items):
    for item in items:
        reason = KNOWN.get(item.name)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(autouse=True)
def ours(request):
    """No test may run over the original by mistake."""
    import safetensors

    assert safetensors is tensorlift.safetensors
