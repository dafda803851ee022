"""Names of thousands of kernels, like those of BTFHub's archive. Input: how many. Output: names.

They are made up, but as hard to compress as real ones. Alone and deflated, 100 of ubuntu/18.04 in BTFHub's archive take
2.5 bytes each and 100 of these 2.7; 99 of ol/7 3.1 and 3.2; 60 of amzn/2 6.3 and 6.6. Equal calls give equal names.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

ARCHS = (("x86_64", "x86_64", "amd64"), ("arm64", "aarch64", "arm64"))
"""As the archive, rpm and dpkg call an architecture."""


def kernel_names(count: int) -> list[str]:
    """`count` different names, at most about 6,000; kernels of all distributions among them."""
    chance = random.Random(count)
    families = (_ubuntu, _enterprise, _oracle, _amazon, _suse, _debian, _fedora)
    names = list(dict.fromkeys(name for family in families for name in family(chance)))
    return chance.sample(names, count)


def _rising(chance: random.Random, start: int, count: int, steps: Sequence[int]) -> Iterator[int]:
    for _ in range(count):
        yield start
        start += chance.choice(steps)


def _ubuntu(chance: random.Random) -> Iterator[str]:
    bases = {
        "16.04": ("4.15.0",),
        "18.04": ("4.15.0", "4.18.0", "5.0.0", "5.3.0", "5.4.0"),
        "20.04": ("5.4.0", "5.8.0", "5.11.0"),
    }
    flavours = {"x86_64": ("generic", "aws", "azure", "gcp", "gke", "oracle"), "arm64": ("generic", "aws", "oracle")}
    for version, of_version in bases.items():
        for arch, _, _ in ARCHS:
            for base in of_version:
                for flavour in flavours[arch]:
                    first = 20 if flavour == "generic" else 1000 + chance.randrange(30)
                    for abi in _rising(chance, first, 36, (1, 1, 1, 1, 2, 2, 3, 4)):
                        yield f"ubuntu/{version}/{arch}/{base}-{abi}-{flavour}"


def _enterprise(chance: random.Random) -> Iterator[str]:
    builds = {
        "7": ("3.10.0", (327, 514, 693, 862, 957, 1062, 1127, 1160)),
        "8": ("4.18.0", (80, 147, 193, 240, 305, 348, 372, 425)),
    }
    for version, (base, of_version) in builds.items():
        for build in of_version:
            tag = "el7" if version == "7" else f"el8_{chance.randrange(8)}"
            for update in _rising(chance, 1, 20, (1, 2, 3, 3, 4, 5)):
                release = f"{base}-{build}.{update}.{chance.choice((1, 1, 1, 2))}"
                yield f"centos/{version}/x86_64/{release}.{tag}.x86_64"
                yield f"rhel/{version}/x86_64/{release}.{tag}.x86_64"
                for respin in chance.choice((("",), ("", ".0.1"), (".0.1", ".0.2"))):
                    yield f"ol/{version}/x86_64/{release}{respin}.{tag}.x86_64"


def _oracle(chance: random.Random) -> Iterator[str]:
    for version, base in (("7", "4.14.35"), ("8", "5.4.17")):
        for build in _rising(chance, 1818, 24, (1, 6, 10, 14)):
            for update in _rising(chance, 0, chance.randrange(4, 16), (1, 1, 2, 100)):
                for arch, machine, _ in ARCHS:
                    respin = chance.choice((1, 1, 2, 3))
                    yield f"ol/{version}/{arch}/{base}-{build}.{update}.{respin}.el{version}uek.{machine}"


def _amazon(chance: random.Random) -> Iterator[str]:
    for version, archs in (("1", ARCHS[:1]), ("2", ARCHS)):
        for arch, machine, _ in archs:
            build, update = 64, 43
            for patch in _rising(chance, 42, 100, (1, 2, 3, 4, 5, 6)):
                yield f"amzn/{version}/{arch}/4.14.{patch}-{build}.{update}.amzn{version}.{machine}"
                build += chance.choice((1, 2, 3, 4))
                update += chance.choice((0, 1, 3, 7, 18, 20, 40))


def _suse(chance: random.Random) -> Iterator[str]:
    bases = {"12.3": "4.4.178", "15.2": "5.3.18", "15.3": "5.3.18", "15.4": "5.14.21"}
    for version in ("12.3", "12.4", "12.5", "15.1", "15.2", "15.3", "15.4"):
        build = chance.randrange(24, 200)
        for update in _rising(chance, 4, 40, (1, 2, 3, 3, 4)):
            for arch, _, _ in ARCHS:
                yield f"sles/{version}/{arch}/{bases.get(version, '4.12.14')}-{build}.{update}-default"


def _debian(chance: random.Random) -> Iterator[str]:
    for version, base in (("9", "4.9.0"), ("10", "4.19.0")):
        for abi in _rising(chance, 4, 20, (1,)):
            for arch, _, machine in ARCHS:
                for flavour in ("", "cloud-", "rt-"):
                    yield f"debian/{version}/{arch}/{base}-{abi}-{flavour}{machine}"


def _fedora(chance: random.Random) -> Iterator[str]:
    for version in range(24, 35):
        base = f"{4 + version // 28}.{version * 3 % 18}"
        for patch in _rising(chance, 5, 12, (1, 2, 3)):
            for arch, machine, _ in ARCHS:
                build = chance.choice((100, 200, 300))
                yield f"fedora/{version}/{arch}/{base}.{patch}-{build}.fc{version}.{machine}"
