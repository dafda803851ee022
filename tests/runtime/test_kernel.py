"""Which BTF is chosen: the rules, os-release as distributions write it, files that are not in order."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hatch_bpf import arch
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.writer import as_libbpf_writes
from hatch_bpf.kernels import identity
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.runtime.errors import BpfError, KernelNotCoveredError, PackageError
from hatch_bpf.runtime.host import kernel
from hatch_bpf.runtime.host.arch import ARCHITECTURES
from hatch_bpf.runtime.host.embedded import Embedded
from hatch_bpf.runtime.host.kernel import BtfChoice
from hatch_bpf.wheel.contents import KERNELS_NAME
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from tests.common.btf_builder import RawBtf
from tests.common.os_releases import ODD, REAL
from tests.common.skeleton_package import embed

RELEASE = "5.4.0-42-generic"


def a_kernel(
    distro: str = "ubuntu", version: str = "20.04", arch: str = "x86_64", release: str = RELEASE
) -> kernel.RunningKernel:
    return kernel.RunningKernel(arch=arch, release=release, distro=distro, version=version)


@pytest.fixture
def bpf_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def no_kernel_btf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel, "KERNEL_BTF", str(tmp_path / "no-such-btf"))


def a_btf(name: str) -> bytes:
    """A BTF unlike those of other names."""
    btf = RawBtf()
    btf.struct(name, 8, ("member", btf.integer(), 0))
    return as_libbpf_writes(Btf(btf.build()))


def choose(bpf_dir: Path, kernels: Mapping[str, bytes], *, damage: Callable[[Path], object] = Path.stat) -> BtfChoice:
    """Choose from these kernels, after something has happened to the file they are in."""
    digest = embed(bpf_dir, kernels)
    damage(bpf_dir / KERNELS_NAME)
    return kernel.choose_btf(str(bpf_dir), (KERNELS_NAME, digest))


def be_without_kernel_btf_and_with(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the running kernel have no BTF, and its distribution this os-release."""
    path = tmp_path / "os-release"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    monkeypatch.setattr(kernel, "KERNEL_BTF", str(tmp_path / "no-such-btf"))
    monkeypatch.setattr(kernel, "OS_RELEASE", (str(tmp_path / "absent"), str(path)))
    monkeypatch.setattr(kernel, "backported", lambda _: None)


@pytest.mark.parametrize(
    ("expected", "text"),
    [*REAL.items(), *ODD.values()],
    ids=[*REAL, *ODD],
)
def test_the_machine_that_built_finds_its_btf(
    expected: str, text: str | None, bpf_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside another kernel of the same release, so that the distribution decides."""
    be_without_kernel_btf_and_with(text, tmp_path, monkeypatch)
    built = identity.host()
    assert f"{built.distro}/{built.version}" == expected
    namesake = Kernel("other", "1", built.arch, built.release)
    choice = choose(bpf_dir, {str(built): a_btf("ours"), str(namesake): a_btf("theirs")})
    assert (choice.source, choice.data) == ("embedded", a_btf("ours"))
    assert Kernel.parse(str(built)) == built


@pytest.mark.parametrize("name", REAL)
def test_the_shell_reads_real_files_the_same(name: str, tmp_path: Path) -> None:
    check_against_the_shell(REAL[name], tmp_path / "os-release")


@pytest.mark.parametrize(
    "name",
    [
        *("an ID of two quotes", "quotes in the middle", "escapes", "a backslash that protects nothing"),
        *("a comment behind the value", "a hash inside", "a later line", "an equals sign in the value", "dots"),
        *("no line end", "white space before", "an empty ID", "a slash"),
    ],
)
def test_the_shell_reads_odd_files_the_same(name: str, tmp_path: Path) -> None:
    check_against_the_shell(str(ODD[name][1]), tmp_path / "os-release")


def check_against_the_shell(text: str, path: Path) -> None:
    path.write_text(text)
    fields = kernel.parse_os_release(text)
    assert fields
    script = '. "$1"; ' + "".join(f'printf "%s\\n" "${{{field}}}"; ' for field in fields)
    printed = subprocess.run(["sh", "-c", script, "sh", str(path)], env={}, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == list(fields.values())


@pytest.mark.parametrize(
    ("kernels", "machine", "expected"),
    [
        pytest.param({f"ubuntu/20.04/x86_64/{RELEASE}": "a"}, a_kernel(), f"ubuntu/20.04/x86_64/{RELEASE}", id="exact"),
        pytest.param(
            {f"ubuntu/20.04/x86_64/{RELEASE}": "a"},
            a_kernel("alpine", "3.19"),
            f"ubuntu/20.04/x86_64/{RELEASE}",
            id="in a container, a release embedded once is enough",
        ),
        pytest.param({f"//x86_64/{RELEASE}": "a"}, a_kernel(), f"//x86_64/{RELEASE}", id="a stated release"),
        pytest.param(
            {f"ubuntu/18.04/x86_64/{RELEASE}": "a", f"ubuntu/20.04/x86_64/{RELEASE}": "b"},
            a_kernel(),
            f"ubuntu/20.04/x86_64/{RELEASE}",
            id="the distribution decides between namesakes",
        ),
        pytest.param(
            {f"ubuntu/18.04/x86_64/{RELEASE}": "a", f"ubuntu/20.04/x86_64/{RELEASE}": "b"},
            a_kernel("alpine", "3.19"),
            None,
            id="and nothing else does",
        ),
        pytest.param(
            {f"ubuntu/18.04/x86_64/{RELEASE}": "a", f"ubuntu/20.04/x86_64/{RELEASE}": "a"},
            a_kernel("alpine", "3.19"),
            f"ubuntu/18.04/x86_64/{RELEASE}",
            id="namesakes with one BTF are one",
        ),
        pytest.param(
            {f"{name}/x86_64/3.10.0-1160.el7.x86_64": name for name in ("centos/7", "ol/7", "rhel/7", "rhel/7.9.1")},
            a_kernel("rhel", "7.9", release="3.10.0-1160.el7.x86_64"),
            "rhel/7/x86_64/3.10.0-1160.el7.x86_64",
            id="archives file minor versions under the major one",
        ),
        pytest.param(
            {f"rhel/{version}/x86_64/{RELEASE}": version for version in ("8", "8.9")},
            a_kernel("rhel", "8.9"),
            f"rhel/8.9/x86_64/{RELEASE}",
            id="unless there is the minor one",
        ),
        pytest.param(
            {f"rhel/{version}/x86_64/{RELEASE}": version for version in ("8.8", "80", "9")},
            a_kernel("rhel", "8.9"),
            None,
            id="never a neighbouring version",
        ),
        pytest.param({"ubuntu/20.04/x86_64/5.4.0-43-generic": "a"}, a_kernel(), None, id="never a near match"),
        pytest.param({f"ubuntu/20.04/x86_64/{RELEASE}-debug": "a"}, a_kernel(), None, id="never a prefix"),
        pytest.param({f"ubuntu/20.04/arm64/{RELEASE}": "a"}, a_kernel(), None, id="never another architecture"),
        pytest.param({}, a_kernel(), None, id="nothing embedded"),
    ],
)
def test_match(kernels: dict[str, str], machine: kernel.RunningKernel, expected: str | None) -> None:
    packed = pack_btfs({Kernel.parse(name): a_btf(of) for name, of in kernels.items()})
    namesakes = Embedded(packed, "kernels.btfs").namesakes(arch=machine.arch, release=machine.release)
    assert kernel.match(namesakes, machine) == expected


@pytest.mark.parametrize(
    ("uname_version", "expected"),
    [
        ("#46~18.04.1-Ubuntu SMP Fri Jul 10 07:21:24 UTC 2020", ("ubuntu", "18.04")),
        ("#1~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC Thu Feb 1 00:00:00 UTC 2024", ("ubuntu", "22.04")),
        ("#46-Ubuntu SMP Fri Jul 10 00:24:02 UTC 2020", ("debian", "12")),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.90-1~bpo11+1 (2024-05-06)", ("debian", "12")),
        ("#1 SMP Thu Oct 21 00:00:00 UTC 2021", ("debian", "12")),
        ("#3~odd-Ubuntu SMP", ("debian", "12")),
        ("", ("debian", "12")),
    ],
)
def test_a_kernel_of_ubuntu_that_says_what_it_was_built_for_is_believed(
    uname_version: str, expected: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container with an image of another distribution; and the build takes it for the same kernel."""
    os_release = tmp_path / "os-release"
    os_release.write_text('ID=debian\nVERSION_ID="12"\n')
    monkeypatch.setattr(kernel, "OS_RELEASE", (str(os_release),))
    running = os.uname_result(("Linux", "host", RELEASE, uname_version, "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: running)
    machine = kernel.running_kernel()
    assert (machine.distro, machine.version) == expected
    assert str(identity.host()) == str(machine)


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        *((machine, known.name) for known in ARCHITECTURES for machine in known.machines),
        ("vax", "vax"),
    ],
)
def test_a_kernel_is_filed_under_the_name_that_the_build_has_for_its_architecture(
    machine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = os.uname_result(("Linux", "host", RELEASE, "", machine))
    monkeypatch.setattr(os, "uname", lambda: running)
    assert kernel.running_kernel().arch == name
    known = arch.by_machine(machine)
    assert known == arch.ARCHES.get(name)


def test_an_explicit_file_comes_first(bpf_dir: Path) -> None:
    path = bpf_dir / "mine.btf"
    path.write_bytes(b"x" * 10)
    choice = kernel.choose_btf(str(bpf_dir), ("", ""), explicit=str(path))
    assert (choice.source, choice.path, choice.size) == ("explicit", str(path), 10)
    assert str(path) in str(choice)


def test_an_explicit_file_that_is_not_there(bpf_dir: Path) -> None:
    with pytest.raises(BpfError, match=r"the BTF file that was asked for, .*/no\.btf, can't be read: No such file"):
        kernel.choose_btf(str(bpf_dir), ("", ""), explicit=str(bpf_dir / "no.btf"))


def test_the_kernels_own_comes_second(bpf_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmlinux").write_bytes(b"y" * 20)
    monkeypatch.setattr(kernel, "KERNEL_BTF", str(tmp_path / "vmlinux"))
    choice = choose(bpf_dir, {str(kernel.running_kernel()): a_btf("embedded")})
    assert (choice.source, choice.size, choice.data) == ("kernel", 20, None)


@pytest.mark.usefixtures("no_kernel_btf")
def test_the_embedded_one_comes_last(bpf_dir: Path) -> None:
    wanted = a_btf("embedded")
    choice = choose(bpf_dir, {str(kernel.running_kernel()): wanted, "debian/12/x86_64/other": a_btf("another")})
    assert (choice.source, choice.kernel, choice.data) == ("embedded", str(kernel.running_kernel()), wanted)
    assert choice.path == str(bpf_dir / KERNELS_NAME)
    assert choice.kernel in str(choice)


@pytest.mark.usefixtures("no_kernel_btf")
def test_a_kernel_that_is_not_covered(bpf_dir: Path) -> None:
    with pytest.raises(KernelNotCoveredError) as caught:
        choose(bpf_dir, {f"debian/12/x86_64/6.1.0-{number}-amd64": a_btf(f"of_{number}") for number in range(20)})
    message = str(caught.value)
    assert f"looked for {kernel.running_kernel()!s}" in message
    assert "it embeds 20: debian/12/x86_64/6.1.0-0-amd64, " in message
    assert "and 8 more" in message
    assert caught.value.wanted == str(kernel.running_kernel())
    assert len(caught.value.embedded) == 20


@pytest.mark.usefixtures("no_kernel_btf")
def test_namesakes_that_cannot_be_told_apart(bpf_dir: Path) -> None:
    name = str(kernel.running_kernel()).split("/", 2)[2]
    with pytest.raises(KernelNotCoveredError, match="several different kernels of that release"):
        choose(bpf_dir, {f"ubuntu/18.04/{name}": a_btf("a"), f"ubuntu/20.04/{name}": a_btf("b")})


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.usefixtures("no_kernel_btf")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: path.write_bytes(b""), "is not the file that was built", id="empty"),
        pytest.param(lambda path: os.truncate(path, 100), "is not the file that was built", id="truncated"),
        pytest.param(flip_a_bit, "is not the file that was built", id="a bit flipped"),
        pytest.param(
            lambda path: embed(path.parent, {str(kernel.running_kernel()): a_btf("swapped")}),
            "is not the file that was built",
            id="swapped for one of another build",
        ),
        pytest.param(Path.unlink, "can't be read: No such file", id="gone"),
    ],
)
def test_damaged_btfs_never_reach_libbpf(bpf_dir: Path, damage: Callable[[Path], object], message: str) -> None:
    with pytest.raises(PackageError, match=rf"kernels\.btfs {message}.*; reinstall the package"):
        choose(bpf_dir, {str(kernel.running_kernel()): a_btf("embedded")}, damage=damage)


def test_a_sealed_memfd_cannot_be_changed() -> None:
    fd = kernel.sealed_memfd("btf", b"the BTF")
    try:
        path = f"/proc/self/fd/{fd}"
        assert Path(path).read_bytes() == b"the BTF"
        for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.truncate(path, 100)):
            with pytest.raises(PermissionError):
                change()
        assert Path(path).read_bytes() == b"the BTF"
    finally:
        os.close(fd)
