"""Puts tensorlift under programs that load by safetensors and torch: `patch()`, `unpatch()`."""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from ._errors import Error
from ._settings import settings

log = logging.getLogger("tensorlift")

#: The functions that are replaced: the switch of each, its module and its name there.
TARGETS = {
    "safe_open": ("safetensors", "safe_open"),
    "load_file": ("safetensors.torch", "load_file"),
    "torch_load": ("torch", "load"),
}
#: Modules that keep the original: its home, where pickle looks it up.
_HOMES = {"torch.serialization"}

_lock = threading.RLock()


class Patch:
    """What `patch()` did; as a context manager it is undone at the end.

    `counts` says how many calls of each function tensorlift served, and how many the original.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = _state.counts

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *_: object) -> None:
        unpatch()

    def __repr__(self) -> str:
        counts = {f"{name} by {who}": count for (name, who), count in self.counts.items()}
        return f"<tensorlift.patch {sorted(_state.enabled)} {counts}>"


class _State:
    def __init__(self) -> None:
        #: Calls of `patch()` that `unpatch()` has not undone.
        self.depth = 0
        #: The switches of the functions that are served.
        self.enabled: set[str] = set()
        #: What each function is replaced by.
        self.replaced: dict[str, tuple[Any, Any]] = {}
        #: Where replacements were put.
        self.bound: list[tuple[ModuleType, str, str]] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.told: set[tuple[str, str]] = set()


_state = _State()


def patch(
    *,
    safe_open: bool | None = None,
    load_file: bool | None = None,
    torch_load: bool | None = None,
) -> Patch:
    """Lets `safetensors.safe_open`, `safetensors.torch.load_file` and `torch.load` go through
    tensorlift where it serves the call exactly, and to the original otherwise.

    Names that modules have imported already are rebound too, and modules that are imported later
    find the replacements. Call it, use it as a context manager, or set `TENSORLIFT_PATCH=1` for
    `import tensorlift`. An argument leaves a function alone with `False`; without one, the
    switches of `tensorlift.settings()` count.

    >>> import tensorlift
    >>> with tensorlift.patch() as patched:
    ...     pass  # AutoModel.from_pretrained(...)
    """
    switches = settings()
    wanted = {
        "safe_open": switches.is_on("patch_safe_open") if safe_open is None else safe_open,
        "load_file": switches.is_on("patch_load_file") if load_file is None else load_file,
        "torch_load": switches.is_on("patch_torch_load") if torch_load is None else torch_load,
    }
    with _lock:
        _state.depth += 1
        _state.enabled |= {name for name, is_on in wanted.items() if is_on}
        if _hook not in sys.meta_path:
            sys.meta_path.insert(0, _hook)
        for name, (module, _) in TARGETS.items():
            if module in sys.modules:
                _replace(name)
        _rebind(_state.enabled & _state.replaced.keys())
    return Patch()


def unpatch() -> None:
    """Undoes one `patch()`; the last one puts the originals back.

    Replacements that something else has wrapped meanwhile stay within it, and go to the original.
    """
    with _lock:
        _state.depth = max(0, _state.depth - 1)
        if _state.depth:
            return
        _state.enabled.clear()
        for module, key, name in _state.bound:
            original, replacement = _state.replaced[name]
            if vars(module).get(key) is replacement:
                setattr(module, key, original)
        _state.bound.clear()
        if _hook in sys.meta_path:
            sys.meta_path.remove(_hook)


def _replace(name: str) -> None:
    """Makes the replacement of a function whose module is imported."""
    if name in _state.replaced:
        return
    module, key = TARGETS[name]
    original = getattr(sys.modules[module], key)
    make = {"safe_open": _make_safe_open, "load_file": _make_load_file, "torch_load": _make_load}
    _state.replaced[name] = (original, make[name](original))


def _rebind(names: Iterable[str]) -> None:
    """Puts the replacements wherever modules have the originals, in one pass: programs have
    thousands of modules.
    """
    name_of = {id(_state.replaced[name][0]): name for name in names}
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__ in _HOMES:
            continue
        if module.__name__.partition(".")[0] == "tensorlift":
            continue
        for key, value in list(vars(module).items()):
            name = name_of.get(id(value))
            if name is not None:
                setattr(module, key, _state.replaced[name][1])
                _state.bound.append((module, key, name))


def _served(name: str, what: Any, ours: Callable[[], Any], original: Callable[[], Any]) -> Any:
    """Calls ours, or the original where ours cannot serve the call."""
    if name not in _state.enabled:
        return original()
    from .safetensors import SafetensorError

    try:
        result = ours()
    except (_NotServed, Error, SafetensorError) as error:
        _state.counts[name, "original"] += 1
        reason = str(error)
        level = logging.DEBUG if (name, reason) in _state.told else logging.INFO
        _state.told.add((name, reason))
        log.log(level, "%s of %s goes to the original: %s", name, what, reason)
        return original()
    _state.counts[name, "tensorlift"] += 1
    return result


class _NotServed(Exception):
    """A call that the original serves."""


def _check_device(device: Any) -> None:
    kind = "cuda" if isinstance(device, int) else str(device or "cpu").partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise _NotServed(f"tensorlift does not load to {device}")


def _make_safe_open(original: Any) -> Any:
    from .safetensors import safe_open as ours

    class Either(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, (ours, original))

        def __subclasscheck__(cls, subclass: type) -> bool:
            return subclass is cls or issubclass(subclass, (ours, original))

    class safe_open(metaclass=Either):
        __doc__ = original.__doc__

        def __new__(
            cls, filename: Any, framework: str, device: Any = "cpu", *, backend: str = "mmap"
        ) -> Any:
            def open_ours() -> Any:
                _check_device(device)
                if framework not in ("pt", "torch", "pytorch", "np", "numpy"):
                    raise _NotServed(f"the framework is {framework}")
                return ours(filename, framework, device, backend=backend)

            def open_original() -> Any:
                return original(filename, framework, device, backend=backend)

            return _served("safe_open", filename, open_ours, open_original)

    return _as("safe_open", safe_open)


def _make_load_file(original: Any) -> Any:
    @functools.wraps(original)
    def load_file(filename: Any, device: Any = "cpu", *, backend: str = "mmap") -> Any:
        def load_ours() -> Any:
            from .safetensors.torch import load_file as ours

            _check_device(device)
            return ours(filename, device, backend=backend)

        def load_original() -> Any:
            return original(filename, device, backend=backend)

        return _served("load_file", filename, load_ours, load_original)

    return _as("load_file", load_file)


def _make_load(original: Any) -> Any:
    from . import torch as ours

    @functools.wraps(original)
    def load(
        f: Any,
        map_location: Any = None,
        pickle_module: Any = None,
        *,
        weights_only: bool | None = None,
        mmap: bool | None = None,
        **pickle_load_args: Any,
    ) -> Any:
        def load_ours() -> Any:
            try:
                return ours.load_served(f, map_location, pickle_module, pickle_load_args)
            except ours.NotServed as error:
                raise _NotServed(str(error)) from error

        def load_original() -> Any:
            return original(
                f,
                map_location,
                pickle_module,
                weights_only=weights_only,
                mmap=mmap,
                **pickle_load_args,
            )

        return _served("torch_load", f, load_ours, load_original)

    return _as("torch_load", load)


def _as(name: str, replacement: Any) -> Any:
    """Lets pickle find a replacement: here, by the name of its switch."""
    replacement.__module__ = __name__
    replacement.__name__ = replacement.__qualname__ = name
    globals()[name] = replacement
    return replacement


def __getattr__(name: str) -> Any:
    # A replacement that was pickled in another process: made here when it is asked for.
    if name in TARGETS:
        importlib.import_module(TARGETS[name][0])
        with _lock:
            _replace(name)
        return globals()[name]
    raise AttributeError(name)


class _Hook(importlib.abc.MetaPathFinder):
    """Replaces functions in modules that are imported after `patch()`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in {module for module, _ in TARGETS.values()}:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """A module's own loader, and the replacements once it has run."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._inner
            module.__loader__ = self._inner
        with _lock:
            if not _state.depth:
                return
            here = {name for name, (home, _) in TARGETS.items() if home == module.__name__}
            for name in here:
                _replace(name)
            _rebind(here & _state.enabled)


_hook = _Hook()
