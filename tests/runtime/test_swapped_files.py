"""What reaches libbpf is what was checked, even if a file is changed between its check and its use."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.runtime.host import kernel
from hatch_bpf.wheel.bundled_libbpf import bundle
from tests.common import needs
from tests.common.skeleton_package import BPF, Package, make_package
from tests.runtime.test_load import HIDE_BTF

SWAPS = {
    "replaced": "open(path + '.new', 'wb').write(bytes(1000)); os.rename(path + '.new', path)",
    "overwritten": "open(path, 'r+b').write(b'nothing that libbpf or a linker could use')",
    "truncated": "os.truncate(path, 0)",
    "gone": "os.unlink(path)",
}
SWAP_AFTER_EACH_CHECK = """
import os, sys
from demo._bpf.runtime.host import kernel

opened, swapped, digest_of = [], [], kernel.sha256

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and "/_bpf/" in arguments[0] and ".py" not in arguments[0]:
        opened.append(arguments[0])

def digest(data):
    found = digest_of(data)
    path = opened[-1]
    if path not in swapped:
        swapped.append(path)
        {swap}
    return found

sys.addaudithook(note)
kernel.sha256 = digest
from demo.sockrtt_skel import Sockrtt
with Sockrtt.open() as bpf, bpf.load() as skel:
    print(skel.btf.source)
print(*[os.path.basename(path) for path in swapped])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """One that needs BTF, with what bpftool makes of the running kernel's."""
    folder = tmp_path_factory.mktemp("package")
    made = make_package(BPF / "sockrtt.bpf.c", folder / "root")
    (built,) = made.bpf_dir.glob("*/sockrtt.bpf.o")
    output = folder / "min.btf"
    command = [needs.tool("bpftool"), "gen", "min_core_btf", str(needs.host_btf()), str(output), str(built)]
    subprocess.run(command, check=True)
    made.embed({str(kernel.running_kernel()): output.read_bytes()})
    return made


@pytest.fixture
def package(made: Package, tmp_path: Path) -> Package:
    """One to spoil."""
    shutil.copytree(made.root, tmp_path / "root")
    return Package(tmp_path / "root", made.module)


@pytest.mark.parametrize("name", SWAPS)
def test_objects_and_btfs_that_are_swapped_after_their_check(package: Package, name: str) -> None:
    needs.root_bpf()
    done = package.run(SWAP_AFTER_EACH_CHECK.format(swap=SWAPS[name]), prefix=HIDE_BTF)
    source, swapped = done.stdout.splitlines()
    assert source == "embedded"
    assert swapped.split()[0] == "sockrtt.bpf.o"
    assert len(swapped.split()) >= 2, "the object and the BTF"
    again = package.run("from demo.sockrtt_skel import Sockrtt; Sockrtt.open()", prefix=HIDE_BTF, check=False)
    assert "PackageError" in again.stderr, "what was put in place would have been used"


@pytest.mark.parametrize("name", SWAPS)
def test_libraries_that_are_swapped_after_their_check(package: Package, name: str) -> None:
    needs.root_bpf()
    arch = build_machine()
    assert arch is not None
    needs.own_libbpf()
    bundled = bundle([arch])
    for path, data in bundled.files.items():
        (package.bpf_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (package.bpf_dir / path).write_bytes(data)
    skeleton = package.root.joinpath(*package.module.split(".")).with_suffix(".py")
    vouching = f"libraries={hashlib.sha256(bundled.index).hexdigest()!r}, kernels=("
    skeleton.write_text(skeleton.read_text().replace("kernels=(", vouching))
    done = package.run(SWAP_AFTER_EACH_CHECK.format(swap=SWAPS[name]))
    assert done.stdout.splitlines()[0] == "kernel"
    swapped = done.stdout.splitlines()[1].split()
    assert swapped == ["sockrtt.bpf.o", "libraries.txt", "libbpf.so.1"]
