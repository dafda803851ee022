"""What libbpf tells a program of the kernel's configuration can be read from Python, once the object is loaded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from tests.common import needs
from tests.common.skeleton_package import BPF, load_skeleton, model_of

CONFIG = """\
CONFIG_A_CHAR=m
CONFIG_A_BOOL=y
CONFIG_B_BOOL=n
CONFIG_A_TRISTATE=m
CONFIG_A_SHORT=4242
CONFIG_A_LONG=0x123456789abc
CONFIG_NEGATIVE=-7
CONFIG_A_STRING="ten chars."
"""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("kconfig", tmp_path_factory.mktemp("kconfig"))


def test_every_kind_of_extern(skeleton: Any) -> None:
    needs.root_bpf()
    with skeleton.Kconfig.open(kconfig=CONFIG) as bpf, bpf.load() as skel:
        config = skel.kconfig
        assert (ord("m"), True, False) == (config.CONFIG_A_CHAR, config.CONFIG_A_BOOL, config.CONFIG_B_BOOL)
        assert config.CONFIG_A_TRISTATE == skeleton.libbpf_tristate.TRI_MODULE
        assert (config.CONFIG_A_SHORT, config.CONFIG_A_LONG, config.CONFIG_NEGATIVE) == (4242, 0x123456789ABC, -7)
        assert str(config.CONFIG_A_STRING) == "ten chars."
        assert config.CONFIG_ABSENT == 0
        major, minor = map(int, os.uname().release.split(".")[:2])
        assert major << 8 | minor == config.LINUX_KERNEL_VERSION >> 8
        with pytest.raises(AttributeError, match=r"\.kconfig is read-only"):
            config.CONFIG_A_SHORT = 1
    with pytest.raises(errors.ClosedError):
        skel.kconfig  # noqa: B018


def test_it_is_not_known_before_the_load(skeleton: Any) -> None:
    needs.root_bpf()
    with skeleton.Kconfig.open(kconfig=CONFIG) as bpf:
        with pytest.raises(AttributeError, match=r"kconfig of .* is available once the object is loaded"):
            bpf.kconfig  # noqa: B018
        assert "kconfig" not in type(bpf).__annotations__


def test_externs_lie_where_bpftools_skeleton_has_them(tmp_path: Path) -> None:
    model = model_of(BPF / "kconfig.bpf.c", tmp_path)
    command = [needs.tool("bpftool"), "gen", "skeleton", str(tmp_path / "kconfig.bpf.o")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    struct = text[text.index("struct kconfig_bpf__kconfig {") :].split("}", 1)[0]
    offsetof = "\n".join(f"check({v.name}, {v.offset}, {v.size});" for v in model.kconfig)
    source = f"""
        #include <stdbool.h>
        #include <stddef.h>
        #include <linux/types.h>
        enum libbpf_tristate {{ TRI_NO, TRI_YES, TRI_MODULE }};
        {struct.replace("struct kconfig_bpf__kconfig {", "struct kconfig {")}
        }};
        #define check(name, at, size) _Static_assert(offsetof(struct kconfig, name) == at && \\
            sizeof(((struct kconfig *)0)->name) == size, #name)
        {offsetof}
    """
    subprocess.run([needs.tool("clang"), "-fsyntax-only", "-x", "c", "-"], input=source, text=True, check=True)
    assert len(model.kconfig) == struct.count(";")
