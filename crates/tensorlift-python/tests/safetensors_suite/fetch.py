"""Fetches safetensors' source distribution and lays its Python tests out to be run.

python fetch.py FOLDER
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "0.8.0"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"safetensors-{VERSION}.tar.gz"
    if not archive.exists():
        what = ["--no-deps", "--no-binary", "safetensors", f"safetensors=={VERSION}"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "-d", str(folder), *what]
        subprocess.run(command, check=True)
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    tests = folder / f"safetensors-{VERSION}" / "bindings" / "python" / "tests"
    shutil.copytree(tests, run / "tests")
    shutil.copy(Path(__file__).with_name("conftest.py"), run / "tests" / "conftest.py")
    print(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
