"""Fetches vLLM's wheel and keeps its base class for model loaders.

python fetch.py FOLDER
"""

import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = "0.33.0"
FILE = "vllm/model_executor/model_loader/base_loader.py"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / FILE).exists():
        what = ["--no-deps", "--only-binary=:all:", f"vllm=={VERSION}"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "-d", str(folder), *what]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("vllm-*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extract(FILE, folder)
    print(folder / FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
