"""Each load has libbpf's messages of its own, whoever else loads in the process meanwhile."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from hatch_bpf.runtime.libbpf import library as libbpf
from hatch_bpf.runtime.libbpf import messages
from tests.common import needs
from tests.common.skeleton_package import BPF, make_package

TWO_PACKAGES = """
    import importlib, sys, threading
    sys.path[:0] = sys.argv[1:3]
    import bad.rejected_skel, good.mapkinds_skel
    errors = bad.rejected_skel._bpf

    stop, faults, rejected, loaded = [], [], [], []

    def load():
        while not stop:
            with good.mapkinds_skel.Mapkinds.open().load():
                loaded.append(1)

    worker = threading.Thread(target=load)
    worker.start()
    for _ in range(100):
        try:
            bad.rejected_skel.Rejected.open().load()
        except errors.VerifierError as error:
            rejected.append(1)
            if "invalid mem access 'map_value_or_null'" not in error.verifier_log or "numbers" in error.log:
                faults.append(error.log)
        except Exception as error:
            faults.append(repr(error))
    stop.append(1)
    worker.join()
    print(len(rejected), len(loaded) > 0, faults[:3])
"""


def test_two_packages_in_two_threads(tmp_path: Path) -> None:
    """Each with a runtime of its own; libbpf has one callback for both."""
    needs.root_bpf()
    folders = []
    for name, source in (("bad", "rejected"), ("good", "mapkinds")):
        package = make_package(BPF / f"{source}.bpf.c", tmp_path / name)
        (package.root / "demo").rename(package.root / name)
        folders.append(str(package.root))
    assert package.run(TWO_PACKAGES, *folders).stdout == "100 True []\n"


def test_messages_without_anybody_to_read_them_go_nowhere() -> None:
    library = libbpf.load()
    with messages.Capture(library) as said:
        assert not library.bpf_object__open_mem(b"no object", 9, None)
        assert any("not a proper ELF object" in line for line in said.lines)
    before = said.lines
    assert not library.bpf_object__open_mem(b"no object", 9, None)
    assert said.lines == before


def test_errno_is_as_libbpf_left_it() -> None:
    """What prints its messages must not change it."""
    library = libbpf.load()
    with messages.Capture(library):
        assert not library.bpf_object__open_mem(b"no object", 9, None)
        assert ctypes.get_errno() == 4001  # LIBBPF_ERRNO__FORMAT


@pytest.mark.parametrize("level", [messages.WARN, messages.INFO, messages.DEBUG])
def test_nothing_stays_open(level: int) -> None:
    messages.stop_capturing()
    assert messages.shared().sinks[level]._as_parameter_ == -1
