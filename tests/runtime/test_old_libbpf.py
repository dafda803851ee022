"""What a libbpf is too old for is said, with the version that is not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.host import kernel, mounts
from hatch_bpf.runtime.libbpf import library as libbpf_module
from hatch_bpf.runtime.load_errors import check_libbpf_is_new_enough
from hatch_bpf.runtime.programs import attaching
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

KINDS = ("prog", "map", "link", "btf")


def test_every_function_that_is_declared_is_called() -> None:
    code = "".join(path.read_text() for path in Path(errors.__file__).parent.parent.rglob("*.py"))
    changed = {f"bpf_map__{verb}{name}" for name in re.findall(r'_change\(\s*"(\w+)"', code) for verb in ("", "set_")}
    # system/objects.py lists what the kernel holds of each kind by functions with the same ending
    by_kind = {f"bpf_{kind}_{end}" for end in re.findall(r'f"bpf_\{kind\}_(\w+)"', code) for kind in KINDS}
    words = Counter(re.findall(r"\w+", code))
    assert [name for name in libbpf_module._FUNCTIONS if words[name] < 2 and name not in changed | by_kind] == []


def test_a_bundled_libbpf_that_is_too_old_is_the_builds_to_replace(old: Any) -> None:
    bundled = libbpf_module.Libbpf(old.path, old._dll)
    bundled.version = (0, 7)
    with pytest.raises(errors.LibbpfTooOldError, match="the package brings this one: build it with a newer hatch-bpf"):
        bundled.require((1, 0), "something")
    with pytest.raises(errors.LibbpfTooOldError, match="apt install libbpf1"):
        old.require((1, 0), "something")


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> Any:
    """This machine's libbpf, saying that it is 0.7."""
    needs.libbpf()
    libbpf = libbpf_module.load()
    monkeypatch.setattr(libbpf, "version", (0, 7))
    return libbpf


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    return load_skeleton("kconfig", tmp_path).Kconfig._spec_


@pytest.mark.parametrize(
    ("section", "since"),
    [
        ("?tp/syscalls/sys_enter_openat", "0.8"),
        ("usdt", "0.8"),
        ("kprobe", "1.0"),
        ("?fentry", "1.0"),
        ("ksyscall/openat", "1.0"),
        ("uprobe.multi//lib/libc.so.6:malloc*", "1.3"),
        ("kprobe.session/tcp_*", "1.5"),
        ("fentry.multi/tcp_*", "1.8"),
        ("tp.s/syscalls/sys_enter_read", "1.8"),
    ],
)
def test_sections_that_came_later(old: Any, spec: Any, section: str, since: str) -> None:
    line = f"prog 'p': missing BPF prog type, check ELF section name '{section}'"
    with pytest.raises(errors.LibbpfTooOldError) as caught:
        check_libbpf_is_new_enough(spec, old, ["something else", line])
    assert f"SEC({section!r}) needs libbpf {since} or later; {old.path} is libbpf 0.7" in str(caught.value)


def test_a_section_that_nobody_knows_is_not_libbpfs_fault(old: Any, spec: Any) -> None:
    check_libbpf_is_new_enough(spec, old, ["prog 'p': missing BPF prog type, check ELF section name 'nonsense/x'"])


def test_kinds_of_btf_that_came_later(old: Any, spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["Error loading vmlinux BTF: -3"]
    monkeypatch.setattr(kernel, "KERNEL_BTF", str(tmp_path / "none"))
    check_libbpf_is_new_enough(spec, old, lines)  # it has none: that is not for a later libbpf to mend
    (tmp_path / "none").touch()
    with pytest.raises(errors.LibbpfTooOldError, match=r"the BTF of a kernel from 6\.0 on needs libbpf 1\.0 or later"):
        check_libbpf_is_new_enough(spec, old, lines)


def test_where_tracepoints_are_looked_for(old: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracing, debug = tmp_path / "tracing" / "events", tmp_path / "debug" / "events"
    monkeypatch.setattr(mounts, "TRACEFS", (str(tracing.parent), str(debug.parent)))
    program = attaching.Attachable()
    program._libbpf = old
    tracing.mkdir(parents=True)
    assert "mount -t debugfs" in program._tracefs_hint()
    debug.mkdir(parents=True)
    assert program._tracefs_hint() == ""
    monkeypatch.setattr(old, "version", (1, 0))
    debug.rmdir()
    assert program._tracefs_hint() == ""
    tracing.rmdir()
    assert "mount -t tracefs" in program._tracefs_hint()


@pytest.mark.parametrize(
    ("attach", "message"),
    [
        (lambda p: p.on_uprobe.attach_uprobe("/lib/libc.so.6", "malloc"), "a function by its name needs libbpf 0.8"),
        (lambda p: p.on_kprobes.attach_kprobe_multi("a*", session=True), "entry and return needs libbpf 1.5"),
    ],
)
def test_options_that_came_later(old: Any, tmp_path: Path, attach: Any, message: str) -> None:
    needs.root_bpf()
    kinds = load_skeleton("kinds", tmp_path)
    with kinds.Kinds.open() as bpf:
        bpf.programs.on_uprobe.autoload = bpf.programs.on_kprobes.autoload = True
        with bpf.load() as skel, pytest.raises(errors.LibbpfTooOldError, match=message):
            attach(skel.programs)
    assert old.version == (0, 7)
