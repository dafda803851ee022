"""Functions of a process. Input: /proc/PID/maps, the files mapped there, its JIT compiler's list. Output: frames.

What a process has mapped is read again when an address or a build id is in none of it, and when it runs another
program. After the process has ended, what was read of it stays.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from time import monotonic

from ..maps.build_ids import BuildIdFrame
from ..plain_data import PlainData
from ..types import as_int
from .demangle import demangled
from .elf_image import ElfImage
from .frame import UNKNOWN, Frame, new_frame, remember
from .function_table import FunctionTable
from .symbol_files import SymbolFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Optional, Union

    from .symbol_files import SymbolFiles

PAUSE = 0.05
"""Seconds for which what was read of a process is trusted."""
MAP_FILES = "map_files"
"""Links to the very files that are mapped, deleted ones included."""
DELETED = " (deleted)"
MOST_VDSO = 1 << 20
MOST_JIT = 1 << 28
"""Bytes of the map of a JIT compiler that are read."""
JIT_SIZE = 1 << 30
"""The longest function that the map of a JIT compiler may have; longer ones are skipped."""


class _Mapping(PlainData):
    """A part of a process' memory with code."""

    start: int
    end: int
    offset: int
    path: str
    is_read: bool = False
    file: Optional[SymbolFile] = None
    """What is mapped there, once it is read."""
    table: Optional[FunctionTable[bytes]] = None
    """Its functions."""
    bias: int = 0
    """What to subtract from an address for one of the table."""


class ProcessSymbols:
    """The functions of one process."""

    def __init__(self, pid: int, files: SymbolFiles, *, demangle: bool) -> None:
        self.pid = pid
        self._files = files
        self._demangle = demangle
        self._proc = f"/proc/{pid}"
        self._frames: dict[Union[int, BuildIdFrame], Frame] = {}
        self._names: dict[bytes, str] = {}
        self._mappings: list[_Mapping] = []
        self._starts: list[int] = []
        self._identity: tuple[object, ...] = ()
        self._checked = 0.0
        """When it was last known that this is still the same process and program."""
        self._mapped = 0.0
        """When its mappings were last read."""
        self._jit: FunctionTable[bytes] = FunctionTable(())
        self._jit_status: tuple[int, int] = (0, 0)

    def frames(self, stack: Iterable[Union[int, BuildIdFrame]]) -> list[Frame]:
        """The functions that addresses, or places in the process' files, are in."""
        if monotonic() - self._checked > PAUSE:
            self._check()
        known = self._frames.get
        return [known(each) or self._look_up(each) for each in stack]

    # --- what the process is ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Forget everything if the process runs another program, or its number belongs to another process."""
        self._checked = monotonic()
        try:
            program = os.stat(f"{self._proc}/exe")
            with open(f"{self._proc}/stat", "rb") as file:
                started = file.read().rpartition(b")")[2].split()[19]
        except (OSError, IndexError):
            return  # it has ended, or it is not ours to look at: what was read of it stays
        identity = program.st_dev, program.st_ino, started
        if identity != self._identity:
            self._identity = identity
            self._jit_status = 0, 0
            self._jit = FunctionTable(())
            self._read_mappings()

    def _read_mappings(self) -> None:
        self._mapped = monotonic()
        try:
            with open(f"{self._proc}/maps", "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return
        if not lines:
            return  # it is a zombie
        known = {(each.start, each.end, each.offset, each.path): each for each in self._mappings}
        mappings = []
        for line in lines:
            fields = line.split(None, 5)
            if b"x" in fields[1]:
                start, end = (int(part, 16) for part in fields[0].split(b"-"))
                path = os.fsdecode(fields[5]) if len(fields) > 5 else ""
                offset = int(fields[2], 16)
                mappings.append(known.get((start, end, offset, path)) or _Mapping(start, end, offset, path))
        self._mappings = mappings
        self._starts = [mapping.start for mapping in mappings]
        self._frames.clear()

    # --- an address ---------------------------------------------------------------------------------------------------

    def _look_up(self, each: Union[int, BuildIdFrame]) -> Frame:
        if not isinstance(each, BuildIdFrame):
            frame = self._at_address(as_int(each))  # of NumPy's as well
        elif each.status == BuildIdFrame.VALID:
            frame = self._in_file(each.build_id, each.offset)
        else:
            frame = self._at_address(each.offset)
        if frame[0] is not UNKNOWN:
            remember(self._frames, each, frame)
        return frame

    def _at_address(self, address: int) -> Frame:
        """The function that an address is in."""
        mapping = self._mapping(address)
        if mapping is None and monotonic() - self._mapped > PAUSE:
            self._read_mappings()
            mapping = self._mapping(address)
        if mapping is None:
            return Frame(UNKNOWN, address, UNKNOWN, address)
        if not mapping.is_read:
            self._read(mapping)
        if mapping.table is not None:
            at, module = address - mapping.bias, mapping.path
            found = mapping.table.find(at)
        else:
            at, module = address, mapping.path or UNKNOWN
            found = self._find_jit(address)
        if found is None:
            return Frame(UNKNOWN, address - mapping.start + mapping.offset, module, address)
        name, start = found
        return new_frame(Frame, (self._names.get(name) or self._name(name), at - start, module, address))

    def _in_file(self, build_id: bytes, offset: int) -> Frame:
        """The function at an offset of one of its files, by the file's build id."""
        mapping = self._mapping_of(build_id)
        if mapping is None and monotonic() - self._mapped > PAUSE:
            self._read_mappings()
            mapping = self._mapping_of(build_id)
        if mapping is None or mapping.file is None:
            return Frame(UNKNOWN, offset, UNKNOWN, offset)
        bias = mapping.file.bias(offset)
        found = None if bias is None else mapping.file.functions.find(offset + bias)
        if found is None or bias is None:
            return Frame(UNKNOWN, offset, mapping.path, offset)
        name, start = found
        return Frame(self._name(name), offset + bias - start, mapping.path, offset)

    def _mapping_of(self, build_id: bytes) -> Optional[_Mapping]:
        """A part of the file with a build id, which the kernel fills up with NULs."""
        for mapping in self._mappings:
            if not mapping.is_read:
                self._read(mapping)
            known = mapping.file.build_id if mapping.file is not None else b""
            if known and known.ljust(len(build_id), b"\0") == build_id:
                return mapping
        return None

    def _mapping(self, address: int) -> Optional[_Mapping]:
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self._mappings[place].end:
            return None
        return self._mappings[place]

    def _name(self, raw: bytes) -> str:
        name = raw.decode("utf-8", "backslashreplace")
        name = self._names[raw] = demangled(name) if self._demangle else name
        return name

    # --- what is mapped -----------------------------------------------------------------------------------------------

    def _read(self, mapping: _Mapping) -> None:
        """Find the functions of what is mapped."""
        mapping.is_read = True
        file = mapping.file = self._vdso(mapping) if mapping.path == "[vdso]" else self._file(mapping)
        bias = None if file is None else file.bias(mapping.offset)
        if file is not None and bias is not None:
            mapping.table = file.functions
            mapping.bias = mapping.start - mapping.offset - bias

    def _file(self, mapping: _Mapping) -> Optional[SymbolFile]:
        """The symbols of a mapped file, even of one that was deleted, or is in another mount namespace."""
        if not mapping.path.startswith("/"):
            return None
        path = mapping.path[: -len(DELETED)] if mapping.path.endswith(DELETED) else mapping.path
        root = f"{self._proc}/root"
        for opened in (f"{self._proc}/{MAP_FILES}/{mapping.start:x}-{mapping.end:x}", root + path):
            try:
                return self._files.read(opened, path, root)
            except OSError:
                continue  # map_files takes CAP_CHECKPOINT_RESTORE; root the same user
        return None

    def _vdso(self, mapping: _Mapping) -> Optional[SymbolFile]:
        """The symbols of the library that the kernel maps into every process."""
        try:
            with open(f"{self._proc}/mem", "rb", buffering=0) as file:
                file.seek(mapping.start)
                return SymbolFile(ElfImage(file.read(min(mapping.end - mapping.start, MOST_VDSO))), "")
        except (OSError, ValueError):
            return None

    # --- code that the process has compiled itself --------------------------------------------------------------------

    def _find_jit(self, address: int) -> Optional[tuple[bytes, int]]:
        """The function at an address, of those that the process names in /tmp/perf-PID.map."""
        found = self._jit.find(address)
        return self._jit.find(address) if found is None and self._read_jit() else found

    def _read_jit(self) -> bool:
        """Read that file if it has changed; return whether it has."""
        try:
            path = f"{self._proc}/root/tmp/perf-{self._own_pid()}.map"
            status = os.stat(path)
            changed = (status.st_size, status.st_mtime_ns) != self._jit_status
            if changed:
                with open(path, "rb") as file:
                    functions = dict(jit_functions(file.read(MOST_JIT).splitlines()))
                self._jit = FunctionTable((start, *functions[start]) for start in sorted(functions))
                self._jit_status = status.st_size, status.st_mtime_ns
            return changed
        except OSError:
            return False

    def _own_pid(self) -> int:
        """Its number in its own PID namespace, which it names its file by."""
        with open(f"{self._proc}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
        return self.pid


def jit_functions(lines: list[bytes]) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """Start, end and name of the functions in lines of `START SIZE NAME`, in hexadecimal; the last one counts."""
    for line in lines:
        start, _, rest = line.partition(b" ")
        size, _, name = rest.partition(b" ")
        try:
            first, length = int(start, 16), int(size, 16)
        except ValueError:
            continue  # half a line, or something else
        if name and 0 < length <= JIT_SIZE and first >= 0:
            yield first, (first + length, name)
