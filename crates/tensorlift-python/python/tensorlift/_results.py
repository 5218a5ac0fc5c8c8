"""What opening and loading return."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

log = logging.getLogger("tensorlift")


class Entry(NamedTuple):
    """A tensor as its file describes it."""

    #: The name.
    name: str
    #: The dtype, by safetensors' names: `F32`, `BF16`.
    dtype: str
    #: The size of each dimension, in elements.
    shape: tuple[int, ...]
    #: The distance between neighbours in each dimension, in elements; `None` for row-major ones.
    strides: tuple[int, ...] | None
    #: The bytes of all elements.
    nbytes: int
    #: The file that holds it.
    path: str
    #: Its first byte in the file, and the end.
    extent: tuple[int, int]
    #: Whether the file marks it as a trained parameter.
    requires_grad: bool
    #: Entries of one record share memory.
    record: int


class Report(dict[str, Any]):
    """What a load took, and how it was done: what `tensorlift load --json` prints.

    `str()` of it is one line.
    """

    def __init__(self, text: str, line: str) -> None:
        super().__init__(json.loads(text))
        self.line = line

    def __str__(self) -> str:
        return self.line

    def log(self, path: str) -> Report:
        """Logs it as that of the checkpoint at `path`: a line, and for debugging each file, its
        reader and why the others were not used.
        """
        log.info("%s: %s", path, self.line)
        for file in self["files"] if log.isEnabledFor(logging.DEBUG) else ():
            refused = [f"; {other['reader']} not used: {other['why']}" for other in file["refused"]]
            reader = file["reader"] or "none"
            log.debug(
                "%s: %s, read by %s%s", file["path"], file["format"], reader, "".join(refused)
            )
        return self


class Tensors(dict[str, Any]):
    """Loaded tensors by name, in file order: a dict, and the report of the load."""

    #: What the load took, and how it was done.
    report: Report

    __slots__ = ("report",)


class Filled(NamedTuple):
    """What `Checkpoint.load_into` did."""

    #: Names that were filled.
    filled: list[str]
    #: Names of the model that the checkpoint lacks: left as they were.
    missing: list[str]
    #: Names of the checkpoint that the model lacks: not loaded.
    unexpected: list[str]
    #: What the load took.
    report: Report
