"""What kernels come to for some objects, as facts that are kept between builds: `Answers`, by the kernel's excerpt.

Input: objects of one architecture; what was found where an excerpt was taken apart. Output: the same again without the
excerpt, as long as the objects' relocations ask the same, whatever else of their code has changed.

That is safe, since what is kept is about the kernel, never about the code. What relocations come to hangs on the kernel
and on their kinds, access strings and types, of which `asked()` is a digest. The features are answers to questions that
name what they are about; one that was not asked before raises `NotAnsweredError`. All else that is in a verdict is
worked out anew, of the objects as they are now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hatch_bpf.btf.excerpt import cut
from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.resolve import Outcome, Resolution, Resolver, agree, outcome_of, resolution_of
from hatch_bpf.errors import BtfError, RelocationError
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.kernel_features import Answer, KernelFeatures, Question
from hatch_bpf.reuse.file_identity import engine_digest
from hatch_bpf.support.store import Store

KIND = "answers"


@dataclass(frozen=True)
class Facts:
    """All of a kernel that verdicts on some objects rest on, but for its version."""

    relocations: tuple[tuple[Outcome, ...], ...]
    """What each comes to, of each object in order."""
    features: tuple[tuple[Question, Answer], ...]

    def resolver(self, objects: Sequence[ObjectModel]) -> Resolver:
        """Gives the outcomes to objects whose relocations ask the same."""
        return _Kept({model.btf: of_object for model, of_object in zip(objects, self.relocations, strict=True)})


@dataclass(frozen=True)
class Answers:
    """All that is made of a kernel for some objects."""

    minimized: bytes
    facts: Facts


def answers_of(
    objects: Sequence[ObjectModel], matcher: Resolver, small: Resolver, made: bytes, features: KernelFeatures
) -> Answers | None:
    """What was found; None where libbpf refuses a relocation, whose message says more than is kept here.

    `small` resolves against `made`, the minimized BTF, which has to serve as well: that is not looked at again.
    """
    found = []
    for model in objects:
        relos = [relo for _, relo in model.core_relos()]
        of_object = []
        for full, other in zip(matcher.resolve_all(model.btf, relos), small.resolve_all(model.btf, relos), strict=True):
            if isinstance(full, RelocationError) or not agree(full, other):
                return None
            of_object.append(outcome_of(full))
        found.append(tuple(of_object))
    return Answers(made, Facts(tuple(found), tuple(features.answers.items())))


def asked(objects: Sequence[ObjectModel]) -> str | None:
    """A digest of what the objects' relocations ask of a kernel; None for objects that are malformed.

    Of an object's own types matching sees what an excerpt has of a kernel's. Cut out, they have the same bytes wherever
    they and their names lie in the object.
    """
    digest = sha256()
    for model in objects:
        relos = [relo for _, relo in model.core_relos()]
        try:
            types, ids = cut(model.btf, {relo.type_id for relo in relos} | {model.btf.long_id})
        except BtfError:
            return None
        records = [(relo.kind, ids[relo.type_id], relo.access_str) for relo in relos]
        digest.update(json.dumps([records, types.hex()]).encode())
    return digest.hexdigest()


class KnownAnswers:
    """The answers that are kept for objects that ask the same. All is lost, and nothing else, with the cache."""

    def __init__(self, store: Store, asked_for: str | None) -> None:
        self._store = store
        self._key = f"{engine_digest()} {asked_for}" if asked_for else None
        kept = store.get(KIND, self._key) if self._key else None
        self._known = dict(_unpack(kept)) if kept else {}
        self._facts = {answers.facts: answers.facts for answers in self._known.values()}
        self._is_new = False

    def get(self, excerpt: str) -> Answers | None:
        """What is known of the kernels that have this excerpt."""
        return self._known.get(excerpt)

    def learn(self, excerpt: str, answers: Answers) -> None:
        """Note what an excerpt came to."""
        self._is_new = True
        # thousands of kernels come to a few
        facts = self._facts.setdefault(answers.facts, answers.facts)
        self._known[excerpt] = Answers(answers.minimized, facts)

    def save(self) -> None:
        """Keep what was learnt, with what was known."""
        if self._is_new and self._key:
            self._store.put(KIND, self._key, _pack(self._known))


def _pack(known: Mapping[str, Answers]) -> bytes:
    """Each minimized BTF once, each kernel's facts once, and which of them go with which excerpt."""
    minimized: dict[bytes, int] = {}
    facts: dict[Facts, int] = {}
    excerpts = {
        name: (minimized.setdefault(a.minimized, len(minimized)), facts.setdefault(a.facts, len(facts)))
        for name, a in known.items()
    }
    table = {
        "minimized": [data.hex() for data in minimized],
        "facts": [(f.relocations, f.features) for f in facts],
        "excerpts": excerpts,
    }
    return json.dumps(table).encode()


def _unpack(packed: bytes) -> Iterator[tuple[str, Answers]]:
    table = json.loads(packed)
    minimized = [bytes.fromhex(data) for data in table["minimized"]]
    facts = [
        Facts(
            tuple(tuple(map(Outcome._make, of_object)) for of_object in relocations),
            tuple(
                (tuple(question), tuple(answer) if isinstance(answer, list) else answer)
                for question, answer in features
            ),
        )
        for relocations, features in table["facts"]
    ]
    for name, (made, found) in table["excerpts"].items():
        yield name, Answers(minimized[made], facts[found])


class _Kept:
    """A `Resolver` that knows what relocations came to."""

    def __init__(self, outcomes: Mapping[Btf, Sequence[Outcome]]) -> None:
        self._outcomes = outcomes

    def resolve_all(self, local: Btf, relos: Iterable[CoreRelo]) -> Iterator[Resolution | RelocationError]:
        return (resolution_of(local, relo, outcome) for relo, outcome in zip(relos, self._outcomes[local], strict=True))
