"""The last build's results, if the file system's word is that nothing has changed since: at once, and importing little.

Input: the name of a build, before the project has been looked at; from a build, all places that it came from. Output:
`Artifacts`, or None where `remembered` has to look closer. A place is a file that was read, a folder that was searched,
or where something was looked for that is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hatch_bpf.compiler.toolchain import clang_identity
from hatch_bpf.kernels import ARCHIVE_VARIABLE, running_kernel
from hatch_bpf.support.files import signature
from hatch_bpf.support.store import Store
from hatch_bpf.wheel.artifacts import Artifacts, unpack

BUILDS = "builds"
"""The kind of result under which `remembered` keeps what was made."""
_KIND = "unchanged"
"""What is noted here: the key of the results, and each place with its signature, with NUL between them."""
SETTLED = 2.0
"""Seconds after which a file that was written to again would have another time stamp."""


def name_of(*words: object, environ: Mapping[str, str] = os.environ) -> str:
    """The name of a build: what is known of it before any file is looked at, and all of the environment that counts."""
    try:
        running = running_kernel()
    except OSError:
        running = ""
    # another hatch-bpf elsewhere may be of another version
    return repr([*map(str, words), __file__, clang_identity(environ), environ.get(ARCHIVE_VARIABLE), running])


def recall(name: str, notify: Callable[[str], None]) -> Artifacts | None:
    """What the build of that name made, told again; None if anything may have changed."""
    store = Store()
    note = store.get(_KIND, name)
    if note is None:
        return None
    key, *fields = os.fsdecode(note).split("\0")
    if any(_signature(place) != was for place, was in zip(fields[::2], fields[1::2], strict=True)):
        return None
    packed = store.get(BUILDS, key)
    if packed is None:
        return None
    made, _ = unpack(packed)
    tell_again(made, notify)
    return made


def tell_again(made: Artifacts, notify: Callable[[str], None]) -> None:
    """Tell what was told when it was made."""
    for line in made.told:
        notify(line)
    notify("nothing has changed since the last build: its results serve")


def keep(name: str, key: str, places: Iterable[Path], *, since: float) -> None:
    """Note that what is kept under `key` came from these places; not if one was written to `since` the build began."""
    noted = {place: _signature(place) for place in sorted(set(map(str, places)))}
    latest = (since - SETTLED) * 1e9
    if not any(int(time) > latest for was in noted.values() for time in was.split()[-2:]):
        fields = (field for entry in noted.items() for field in entry)
        Store().put(_KIND, name, os.fsencode("\0".join((key, *fields))))


def _signature(place: str) -> str:
    """Empty if nothing is there."""
    try:
        return signature(place)
    except (OSError, ValueError):
        return ""
