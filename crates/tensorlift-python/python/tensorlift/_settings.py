"""Settings, from the environment or set by the program: those of every tensorlift, by its one
table, and those of `patch()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from . import _native
from ._errors import MisuseError

#: The values of settings that are on or off.
_TRUTH = "true|false"
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class Switch(NamedTuple):
    """A setting that there is."""

    #: The name: `memory_bytes`.
    name: str
    #: The environment variable, read when tensorlift is imported.
    variable: str
    #: The values it takes: alternatives, `N` for a number from 1 on, `SIZE` for a size as in `4MiB`.
    values: str
    #: What it does.
    about: str


def _of_patch(name: str, about: str) -> Switch:
    return Switch(name, f"TENSORLIFT_{name.upper()}", _TRUTH, about)


#: Settings that Python alone has, and whether each is on without a value.
_PATCH = {
    _of_patch("patch", "Whether `import tensorlift` calls `patch()`"): False,
    _of_patch("patch_safe_open", "Whether `patch()` covers `safetensors.safe_open`"): True,
    _of_patch("patch_load_file", "Whether `patch()` covers `safetensors.torch.load_file`"): True,
    _of_patch("patch_torch_load", "Whether `patch()` covers `torch.load`"): True,
}
_DEFAULTS = {switch.name: is_on for switch, is_on in _PATCH.items()}


def _name(name: str) -> str:
    """The name of a setting of the table, as Python spells it."""
    return name.replace("-", "_")


#: The name in the table of each setting of loads.
_IN_TABLE = {_name(name): name for name, *_ in _native.InForce.switches()}
#: The arguments of calls that have another name than their setting.
_ARGUMENTS = {"max_memory": "memory_bytes"}
#: Every setting, by name.
SWITCHES: dict[str, Switch] = {
    **{_name(name): Switch(_name(name), *rest) for name, *rest in _native.InForce.switches()},
    **{switch.name: switch for switch in _PATCH},
}


class Settings(Mapping[str, str | None]):
    """The settings in force: the value of each by its name, `None` where its default counts.

    `str()` of it lists them with their environment variables, the values they take and what they
    do. An argument of a call comes before a setting.
    """

    def __init__(self, native: _native.InForce, of_patch: dict[str, str]) -> None:
        #: Those of loads, for the native part.
        self.native = native
        set_by_name = {_name(name): value for name, value, _ in native.list()}
        self._values: dict[str, str | None] = dict.fromkeys(SWITCHES)
        self._values.update({**set_by_name, **of_patch})

    def __getitem__(self, name: str) -> str | None:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.items() if value is not None}
        return f"<tensorlift.Settings {changed}>"

    def __str__(self) -> str:
        rows = [
            (f"{name} = {self[name] or 'default'}", switch.variable, switch.values, switch.about)
            for name, switch in SWITCHES.items()
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        cells = ([text.ljust(width) for text, width in zip(row, widths)] + [row[3]] for row in rows)
        return "\n".join("  ".join(row) for row in cells)

    def is_on(self, name: str) -> bool:
        """Whether a setting of `patch()` is on."""
        value = self[name]
        return _DEFAULTS[name] if value is None else value == "true"


def settings() -> Settings:
    """The settings in force; `print` them for a list."""
    return _current


def configure(**changes: str | int | bool | None) -> Settings:
    """Sets settings by their names, and returns those now in force.

    `None` takes back what the program has set: the environment counts again.

    >>> import tensorlift
    >>> tensorlift.configure(threads=4, memory_bytes="2GiB")["threads"]
    '4'
    >>> tensorlift.configure(threads=None, memory_bytes=None)["threads"]
    """
    global _changes, _current
    for name in changes:
        if name not in SWITCHES:
            raise MisuseError(f"there is no setting {name!r}; there are {', '.join(SWITCHES)}")
    wanted = {**_changes, **{name: as_text(value) for name, value in changes.items()}}
    found = {name: text for name, text in wanted.items() if text is not None}
    _current = _make(found)
    _changes = found
    return _current


def as_text(value: object) -> str | None:
    """A value as the table takes it."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def changes_of(arguments: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Settings that a call makes, for the native part: name, value, and the argument."""
    texts = ((name, as_text(value)) for name, value in arguments.items())
    return [
        (_IN_TABLE[_ARGUMENTS.get(name, name)], text, name)
        for name, text in texts
        if text is not None
    ]


def _make(changes: dict[str, str]) -> Settings:
    """The settings of the environment under those of the program."""
    of_loads = {name: text for name, text in changes.items() if name in _IN_TABLE}
    of_patch = {name: _truth(name, text) for name, text in changes.items() if name not in _IN_TABLE}
    return Settings(
        _LOADS_BY_ENVIRONMENT.with_(changes_of(of_loads)), _PATCH_BY_ENVIRONMENT | of_patch
    )


def _truth(source: str, text: str) -> str:
    if text.lower() in _TRUE + _FALSE:
        return as_text(text.lower() in _TRUE) or ""
    raise MisuseError(f'{source}="{text}" (expected true or false)')


_LOADS_BY_ENVIRONMENT = _native.InForce.from_environment()
_PATCH_BY_ENVIRONMENT = {
    switch.name: _truth(switch.variable, text)
    for switch in _PATCH
    if (text := os.environ.get(switch.variable, "").strip())
}
_changes: dict[str, str] = {}
_current = _make(_changes)
