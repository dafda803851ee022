"""Descriptors live as long as they are used, and no longer."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.descriptor import duplicate, open_pipe
from tests.common import needs
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("mapkinds", tmp_path_factory.mktemp("maps"))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_it_is_closed_with_the_last_reference() -> None:
    read, write = open_pipe()
    first, second = int(read), int(write)
    copies = [read]
    del read
    assert is_open(first)
    copies.clear()
    assert not is_open(first)
    os.close(write)
    del write  # it is no error that somebody has closed it by its number
    assert not is_open(second)


def test_a_duplicate_is_not_inherited_by_other_programs() -> None:
    read, write = open_pipe()
    assert not os.get_inheritable(duplicate(read))
    assert write > read


@pytest.mark.parametrize("of", ["maps.numbers", "programs.entry"])
def test_who_holds_a_descriptor_keeps_it_open(skeleton: Any, of: str) -> None:
    needs.root_bpf()
    skel = skeleton.Mapkinds.open().load()
    kind, name = of.split(".")
    fd = getattr(skel, kind)[name].fd
    number = int(fd)
    skel.close()
    assert is_open(number)
    del fd
    assert not is_open(number)
    with pytest.raises(errors.ClosedError):
        getattr(skel, kind)[name].fd  # noqa: B018


def test_a_pinned_map_is_closed(skeleton: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened by the descriptor of a map, where there is no BPF file system to pin it in."""
    needs.root_bpf()
    with skeleton.Mapkinds.open().load() as skel:
        libbpf, own = skel._held.libbpf, int(skel.maps.numbers.fd)
        monkeypatch.setattr(libbpf, "bpf_obj_get", lambda _path: os.dup(own))
        with skeleton.Mapkinds.pinned("numbers", os.fspath(tmp_path)) as pinned:
            skel.maps.numbers[2] = 22
            number = int(pinned.fd)
            assert pinned[2] == 22
        assert not is_open(number)


def test_a_process_without_descriptors_left_is_told_so(skeleton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.root_bpf()

    def refuse(_fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = len(os.listdir("/proc/self/fd"))
    with skeleton.Mapkinds.open() as bpf:
        monkeypatch.setattr(os, "dup", refuse)
        with pytest.raises(errors.MapError, match="can't get a descriptor of its own: EMFILE"):
            bpf.load()
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
