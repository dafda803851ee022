"""hatch-bpf's own wheel: it carries what its build hook adds to the code."""

from __future__ import annotations

from pathlib import Path

from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs
from tests.common.projects import REPOSITORY, tree_of, wheel_files


def test_it_has_the_libraries_headers_licenses_and_templates(own_wheel: Path) -> None:
    needs.own_libbpf()
    files = wheel_files(own_wheel)
    for folder, place in ((OWN_LIBBPF, "_libbpf"), (REPOSITORY / "templates", "templates")):
        prefix = f"hatch_bpf/{place}/"
        packed = {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}
        assert packed == tree_of(folder)
    names = {name.removeprefix("hatch_bpf/_libbpf/") for name in files}
    assert {
        "lib/x86_64/glibc/libbpf.so.1",
        "lib/arm64/musl/libbpf.so.1",
        "lib/licenses/elfutils/COPYING-LGPLV3",
        "lib/licenses/libbpf/LICENSE.LGPL-2.1",
        "lib/licenses/zlib/LICENSE",
        "lib/sbom.cdx.json",
        "include/bpf/bpf_helpers.h",
    } <= names


def test_it_is_for_every_platform(own_wheel: Path) -> None:
    """It only carries the libraries along, and may build for other machines than its own."""
    assert own_wheel.name.endswith("-py3-none-any.whl")
