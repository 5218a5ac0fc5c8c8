"""The progress of a load: a function of the caller's, or a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ._errors import MisuseError

Progress = bool | Callable[[int, int], object]


class Bar:
    """The callback for progress: the caller's, a bar on stderr, or none."""

    def __init__(self, progress: Progress) -> None:
        if not (isinstance(progress, bool) or callable(progress)):
            raise MisuseError(f"progress={progress!r} (expected True, False or a function)")
        self._progress = progress
        self._drawn = False

    def __enter__(self) -> Callable[[int, int], object] | None:
        if callable(self._progress):
            return self._progress
        return self._draw if self._progress else None

    def _draw(self, done: int, total: int) -> None:
        share = done / total if total else 1.0
        bar = "#" * int(30 * share)
        sys.stderr.write(f"\r[{bar:<30}] {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
        sys.stderr.flush()
        self._drawn = True

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\n")
