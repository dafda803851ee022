"""Excerpts of kernels that earlier builds read: the part of a kernel's BTF that can answer the same questions again.

Input: a `KernelSource`, and later its BTF with a record of what was asked. Output: excerpts as `RecordedBtf.pack()`
makes them. Many kernels share an excerpt, so group kernels by its name and look at each excerpt once. Deleting the
cache folder loses the excerpts and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable

from hatch_bpf.btf.excerpt import Excerpt, RecordedBtf
from hatch_bpf.kernels.matrix import KernelSource
from hatch_bpf.reuse.file_identity import identities
from hatch_bpf.support.store import Store


class KnownKernels:
    """Finds excerpts and keeps them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def recall(self, source: KernelSource) -> str | None:
        """The name of a kernel's excerpt; None if no build read the kernel, or its file has changed."""
        return self._recall(source, identities(source))

    def _recall(self, source: KernelSource, known_by: Iterable[str]) -> str | None:
        unknown = []
        for identity in known_by:
            note = self._store.get("kernels", identity)
            if note is None:
                unknown.append(identity)
            else:
                # a copy, whose contents need not be read in the next build
                for cheaper in unknown:
                    self._store.put("kernels", cheaper, note)
                excerpt, sha256 = json.loads(note)
                return None if source.sha256 and source.sha256 != sha256 else str(excerpt)
        return None

    def excerpt(self, name: str) -> bytes | None:
        """An excerpt by name; None if it is gone."""
        packed = self._store.get("excerpts", name)
        return None if packed is None else zlib.decompress(packed)

    def keep(self, source: KernelSource, whole: RecordedBtf, before: str | None) -> str | None:
        """Keep the excerpt of a kernel that was just read: every name that this build and earlier ones asked for.

        `before` is the file's identity from before it was read: if the file was replaced meanwhile, nothing is kept,
        and the answer is None; otherwise it is the excerpt's name.
        """
        known_by = tuple(identities(source))  # which reads the file
        if before not in known_by:
            return None
        former = self._recall(source, known_by)
        packed = self.excerpt(former) if former else None
        packed = whole.pack(Excerpt(packed, source=source.origin) if packed else None)
        name = hashlib.sha256(packed).hexdigest()
        if self._store.get("excerpts", name) is None:
            self._store.put("excerpts", name, zlib.compress(packed))
        # reading checked that this is the BTF that was locked
        note = json.dumps([name, source.sha256]).encode()
        for identity in known_by:
            self._store.put("kernels", identity, note)
        return name
