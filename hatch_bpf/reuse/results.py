"""Results of earlier builds: what became of the same objects on a kernel that answers the same questions alike.

Input: the objects, the options that decide verdicts, and the name of a kernel's excerpt. Output: the minimized BTF and
the verdicts, or None. They are kept by the bytes of all that they depend on. Deleting the cache folder loses them and
nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.version import version_bounds
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, ReasonKind, Verdict, Weight
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.support.own_libbpf import own_library
from hatch_bpf.support.store import Store

Objects = Mapping[str, Sequence[ObjectModel]]
"""The objects of a package, by architecture."""


@dataclass(frozen=True)
class Result:
    """One kernel's minimized BTF and verdicts for one package."""

    minimized: bytes
    programs: tuple[ProgramVerdict, ...]


Results = tuple[Result, ...]
"""One for each package."""


class KnownResults:
    """Finds results and keeps them.

    They depend on what libbpf says of the objects. That of hatch-bpf is known by its bytes; another may come in the
    place of the machine's at any time, so nothing is kept where that one is asked.
    """

    def __init__(
        self, store: Store, packages: Sequence[Objects], alternatives: Alternatives, libbpf: tuple[int, int] | None
    ) -> None:
        library = own_library()
        self._store = store if library is not None else None
        asked = [repr(alternatives), repr(libbpf), _sha256(library.read_bytes()) if library is not None else ""]
        self._asked = {
            arch: _sha256(json.dumps([*asked, [[_known_by(model) for model in o[arch]] for o in packages]]).encode())
            for arch in {arch for objects in packages for arch in objects}
        }
        models = (model for objects in packages for of_arch in objects.values() for model in of_arch)
        self._reads_version = any(e.name == "LINUX_KERNEL_VERSION" for model in models for e in model.kconfig)

    def key(self, excerpt: str, kernel: Kernel) -> str:
        """All that results on a kernel depend on; kernels with the same key have the same results."""
        bounds = version_bounds(kernel) if self._reads_version else None
        return f"{excerpt} {kernel.arch} {bounds} {self._asked[kernel.arch]}"

    def recall(self, key: str) -> Results | None:
        """The results that an earlier build kept; None if none did."""
        kept = self._store.get("kernel-results", key) if self._store is not None else None
        return None if kept is None else _unpack(kept)

    def keep(self, key: str, results: Results) -> None:
        if self._store is not None:
            self._store.put("kernel-results", key, _pack(results))


def _known_by(model: ObjectModel) -> tuple[str, str]:
    return model.path, _sha256(model.elf)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _pack(results: Results) -> bytes:
    """A line of JSON with each package's verdicts and the size of its BTF; after it the BTFs."""
    listed = [[len(result.minimized), [asdict(program) for program in result.programs]] for result in results]
    head = json.dumps(listed, default=_value)
    return b"\n".join([head.encode(), b"".join(result.minimized for result in results)])


def _value(member: Enum) -> object:
    return member.value


def _unpack(data: bytes) -> Results:
    head, _, minimized = data.partition(b"\n")
    results = []
    for size, programs in json.loads(head):
        results.append(Result(minimized[:size], tuple(map(_verdict, programs))))
        minimized = minimized[size:]
    return tuple(results)


def _verdict(members: dict[str, Any]) -> ProgramVerdict:
    reasons = tuple(map(_reason, members.pop("reasons")))
    return ProgramVerdict(verdict=Verdict(members.pop("verdict")), reasons=reasons, **members)


def _reason(members: dict[str, Any]) -> Reason:
    return Reason(kind=ReasonKind(members.pop("kind")), weight=Weight(members.pop("weight")), **members)
