"""What the command line refuses, Python refuses with the same words; what it loads, Python loads.

`cargo xtask python-tests hostile` writes the hostile kit and names the command line.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorlift

LIST, CLI = os.environ.get("TENSORLIFT_HOSTILE"), os.environ.get("TENSORLIFT_CLI")
pytestmark = pytest.mark.skipif(not (LIST and CLI), reason="no hostile kit is named")


def by_command_line(path: str) -> str | None:
    """Why the command line refuses a file, or nothing if it loads it."""
    command = [CLI, "load", path]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode in (0, 1), (path, ended)
    if ended.returncode == 0:
        return None
    # It names its own flag for a limit, which Python does not have.
    # Decoded here: as text, a carriage return in a name would become a line feed.
    told = ended.stderr.decode(errors="replace").strip()
    return told.removeprefix("error: ").removesuffix(" (with --limit)")


def here(path: str) -> str | None:
    """The same in this process; any other exception is a failure."""
    try:
        tensorlift.open(path).load()
    except tensorlift.Error as error:
        return str(error)
    return None


def test_every_file_of_the_kit():
    paths = Path(LIST).read_text().splitlines()
    assert len(paths) > 1000
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(by_command_line, paths))
    found = [here(path) for path in paths]
    differ = [
        f"{path}\n  command line: {one}\n  Python:       {other}"
        for path, one, other in zip(paths, expected, found, strict=True)
        # numpy cannot count every shape; it says so by a typed error.
        if one != other and not (one is None and "numpy has no object for it" in other)
    ]
    assert not differ, f"{len(differ)} differ:\n" + "\n".join(differ[:20])
    assert sum(refusal is not None for refusal in expected) > 500
