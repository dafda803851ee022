"""What goes into a guest: this machine's Python, another root file system, wheels, and how programs are attached."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hatch_bpf.cli.common import load_project
from hatch_bpf.errors import LabError
from hatch_bpf.kernels.matrix import BtfFile, Matrix, resolve
from hatch_bpf.lab import cpio, schedule
from hatch_bpf.lab.compiled import PYTHON_VERSION
from hatch_bpf.lab.guest_files import GuestRoot, Payload, common_archive, how_to_attach
from hatch_bpf.lab.host_python import host_root, interpreter
from hatch_bpf.lab.other_root import read_root
from hatch_bpf.lab.payload import make_payloads
from hatch_bpf.lab.selection import select
from hatch_bpf.lab.suite import own_tests
from hatch_bpf.lab.wheels import installed_nodes, wheel_nodes, wheel_requirements
from tests.common import needs
from tests.common.kernel_images import member
from tests.common.projects import make_project


def unpack(packed: bytes, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run([needs.tool("cpio"), "-id", "--quiet"], input=packed, cwd=folder, check=True)
    return folder


def test_this_machines_python_runs_from_the_archive_alone(tmp_path: Path) -> None:
    needs.root_bpf()  # chroot wants root
    root = host_root("x86_64")
    assert not [name for name in root.nodes if "site-packages" in name or "dist-packages" in name]
    folder = unpack(common_archive(Payload(root, {}, {}, ())), tmp_path / "root")
    code = "import ctypes, json, ssl, sys; print(sys.prefix, ctypes.CDLL(sys.argv[1]).libbpf_major_version())"
    chroot = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin")
    assert chroot is not None
    done = subprocess.run(
        [chroot, str(folder), "/site/bin/python", "-ISB", "-c", code, root.libbpf],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] in ("0", "1")


def test_without_ldd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="ldd, which tells what libraries a Python needs, is not installed"):
        host_root("x86_64")


def make_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def test_another_root_file_system(tmp_path: Path) -> None:
    elf = b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00" + bytes(40)
    path = make_tar(
        tmp_path / "root.tar",
        symlink("./lib", "usr/lib"),
        member("usr/bin/python3.13", elf, mode=0o755),
        symlink("usr/bin/python3", "../bin/python3.13"),
        member("usr/lib/aarch64-linux-gnu/libbpf.so.1.5.0", b"x"),
        symlink("usr/lib/aarch64-linux-gnu/libbpf.so.1", "libbpf.so.1.5.0"),
        member("../outside", b"x"),
        member("dev/null", b"x"),
    )
    root = read_root(path)
    assert (root.python, root.python_version, root.arch) == ("/usr/bin/python3", "3.13", "arm64")
    assert root.libbpf == "/usr/lib/aarch64-linux-gnu/libbpf.so.1"
    assert {"lib", "usr/bin/python3.13"} <= root.nodes.keys()
    assert not [name for name in root.nodes if "outside" in name or name.startswith("dev/")]


def test_a_root_file_system_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"there is no Python in it, at usr/local/bin/python3 or usr/bin/python3"):
        read_root(make_tar(tmp_path / "a.tar", symlink("usr/bin/python3", "python3")))
    (tmp_path / "b.tar").write_bytes(b"no tar")
    with pytest.raises(LabError, match=r"b\.tar: this root file system cannot be read"):
        read_root(tmp_path / "b.tar")


def test_root_file_systems_are_read_as_tar_writes_them(tmp_path: Path) -> None:
    """Compressed, with names that a header has no room for, and with hard links."""
    long = "usr/" + "long/" * 40 + "python3.12"
    members = (member(long, b"\x7fELF", mode=0o755), member("usr/bin/python3", type=tarfile.LNKTYPE, linkname=long))
    for form, mode in ((tarfile.GNU_FORMAT, "w:gz"), (tarfile.PAX_FORMAT, "w:xz"), (tarfile.PAX_FORMAT, "w:bz2")):
        path = tmp_path / mode.replace("w:", "root.tar.")
        with tarfile.open(path, mode, format=form) as tar:  # type: ignore[call-overload]
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        root = read_root(path)
        assert root.nodes[long] == root.nodes["usr/bin/python3"]
        assert root.nodes[long].mode & 0o111


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it ends too early"),
        (gzip.compress(bytes(1000))[:12], "cut off in the middle of its gzip data"),
        (gzip.compress(bytes(1000))[:10] + bytes(40), "its gzip data is corrupt"),
    ],
    ids=["empty", "cut off", "corrupt"],  # gzip's data has the time in it, and all workers must have the same names
)
def test_a_root_file_system_that_is_broken(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "r.tar.gz").write_bytes(data)
    with pytest.raises(LabError, match=rf"^\S*r\.tar\.gz: this root file system cannot be read: .*{why}"):
        read_root(tmp_path / "r.tar.gz")


def test_a_root_file_system_is_no_bomb(tmp_path: Path) -> None:
    """150 MB of zeros, and a hard link to nothing."""
    big = tmp_path / "big.tar.gz"
    info, _ = member("usr/bin/python3", type=tarfile.REGTYPE)
    info.size = 150 << 20
    with gzip.open(big, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(150):
            file.write(bytes(1 << 20))
    with pytest.raises(LabError, match="unpacks to more than any real file of its size"):
        read_root(big)
    with pytest.raises(LabError, match="a is a hard link to a file that does not come before it"):
        read_root(make_tar(tmp_path / "l.tar", member("a", type=tarfile.LNKTYPE, linkname="b")))


def make_wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("one/__init__.py", "def main(): print('hello')\n")
        opened.writestr("one-1.data/purelib/two.py", "")
        opened.writestr(
            "one-1.dist-info/METADATA", "Name: one\nRequires-Dist: pluggy\nRequires-Dist: x; extra == 'y'\n\nz"
        )
        opened.writestr("one-1.dist-info/entry_points.txt", "[console_scripts]\nTool = one:main [x]\n")
    return path


def test_a_wheel_is_installed_as_pip_does(tmp_path: Path) -> None:
    nodes = wheel_nodes(make_wheel(tmp_path / "one-1-py3-none-any.whl"))
    assert {"site/one/__init__.py", "site/two.py", "site/bin/Tool"} <= nodes.keys()
    script = nodes["site/bin/Tool"].content.decode()
    assert script == "#!/site/bin/python\nimport sys\nfrom one import main\nsys.exit(main())\n"
    assert wheel_requirements(nodes) == ["pluggy", "x; extra == 'y'"]


def test_what_a_wheel_requires_comes_from_this_environment() -> None:
    nodes = installed_nodes(["pytest", "x; extra == 'y'"])
    assert {"site/pytest/__init__.py", "site/pluggy/__init__.py", "site/bin/pytest"} <= nodes.keys()
    with pytest.raises(LabError, match="nothing-like-it, which goes into the guest, is not installed beside hatch-bpf"):
        installed_nodes(["nothing-like-it"])
    with pytest.raises(
        LabError, match=r"pytest [0-9.]+ is installed .* requires pytest<1,>=0: .* install 'pytest<1,>=0'"
    ):
        installed_nodes(["pytest<1,>=0"])


def test_a_test_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tests" / "test_x.py"
    path.parent.mkdir()
    path.touch()

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(LabError, match=r"test_x\.py: this cannot be read, .* with the tests: Permission denied"):
        own_tests(tmp_path)


def test_a_wheel_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"PK")
    with pytest.raises(LabError, match=r"x\.whl: this wheel cannot be read"):
        wheel_nodes(tmp_path / "x.whl")


def forged_wheel(path: Path, name: str = "x-1.dist-info/METADATA", content: bytes = b"Name: x\n") -> bytearray:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("entries", [b"[console_scripts\n", b"[console_scripts]\na=b:c\na=b:c\n", b"\xff"])
def test_a_wheel_whose_commands_are_no_text_of_such(entries: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    forged_wheel(path, "x-1.dist-info/entry_points.txt", entries)
    with pytest.raises(LabError, match=r"x\.whl: this wheel cannot be read"):
        wheel_nodes(path)


@pytest.mark.parametrize(
    ("offset", "byte", "why"),
    [(8, 1, "encrypted"), (10, 99, "compression method"), (16, 0x55, "CRC")],
)
def test_a_wheel_that_zipfile_does_not_read(offset: int, byte: int, why: str, tmp_path: Path) -> None:
    """A change in its table of contents: flags, the compression, the checksum."""
    path = tmp_path / "x.whl"
    data = forged_wheel(path)
    data[data.index(b"PK\x01\x02") + offset] = byte
    path.write_bytes(data)
    with pytest.raises(LabError, match=rf"x\.whl: this wheel cannot be read: .*{why}"):
        wheel_nodes(path)


def test_a_wheel_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    forged_wheel(path, content=bytes(120 << 20))
    with pytest.raises(LabError, match="unpacks to more than any real file of its size"):
        wheel_nodes(path)


@pytest.mark.parametrize(
    ("command", "there"),
    [(("pytest", "-k", "one"), True), (("python", "-m", "pytest"), True), (("python", "x.py"), False), ((), False)],
)
def test_a_command_that_names_pytest_gets_it(command: tuple[str, ...], there: bool, tmp_path: Path) -> None:
    project = load_project(make_project(tmp_path / "p"))
    root = GuestRoot({}, "/usr/bin/python3", "", "arm64", "")
    payloads = make_payloads(project, ["arm64"], root, wheel=make_wheel(tmp_path / "x.whl"), command=command)
    assert payloads["arm64"].command == command
    assert ("site/bin/pytest" in payloads["arm64"].site) is there


@pytest.mark.parametrize(
    ("section", "how"),
    [
        ("kprobe/do_unlinkat", "section"),
        ("?tracepoint/sched/sched_switch", "section"),
        ("raw_tp/sched_switch", "section"),
        ("fentry/do_unlinkat", "section"),
        ("iter/task", "section"),
        ("sockops", "BPF_CGROUP_SOCK_OPS"),
        ("cgroup_skb/ingress", "BPF_CGROUP_INET_INGRESS"),
        ("kprobe.multi/vfs_*", "section"),
        ("kprobe.multi", ""),
        ("fsession/do_unlinkat", "section"),
        ("ksyscall/openat", "section"),
        ("kprobe", ""),
        ("tp", ""),
        ("fmod_ret/do_unlinkat", ""),
        ("lsm/file_open", ""),
        ("struct_ops/init", ""),
        ("uprobe//bin/sh:main", ""),
        ("xdp", ""),
        ("nothing like it", ""),
    ],
)
def test_programs_are_attached_where_that_is_harmless(section: str, how: str) -> None:
    assert how_to_attach(section) == how


def test_guests_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schedule, "processors", lambda: 8)
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(schedule, "_MEMINFO", meminfo)
    for free, guests in ((100, 1), (2100, 3), (99_999, 8)):
        meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable: {free * 1024} kB\n")
        assert schedule.guests_at_a_time(512) == guests


def test_an_empty_matrix() -> None:
    with pytest.raises(LabError, match="none of the 0 kernels can be tried: the matrix is empty"):
        select(Matrix((), ()), None, {"x86_64"})


@pytest.mark.parametrize(
    ("arch", "why"),
    [
        ("arm64", "its guest needs a Python of arm64: name a root file system with --root"),
        ("riscv64", "kernels of riscv64 cannot be booted: those of x86_64 and arm64 can"),
    ],
)
def test_a_kernel_of_another_architecture(arch: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"x")
    matrix = resolve([BtfFile(path, "6.1.0", arch)], archs=[arch], archive=None)
    with pytest.raises(LabError, match=why):
        select(matrix, None, {"x86_64"})


def test_the_first_process_is_isolated() -> None:
    root = GuestRoot({}, str(interpreter()), "", "x86_64", "")
    packed = common_archive(Payload(root, {}, {"tests/test_x.py": cpio.file("")}, ()))
    assert f"#!{interpreter()} -ISB\n".encode() in packed
    assert b"project/tests/test_x.py" in packed


def test_the_first_process_finds_what_it_imports_in_the_archive(tmp_path: Path) -> None:
    root = GuestRoot({}, str(interpreter()), "", "x86_64", "")
    packed = common_archive(Payload(root, {}, {}, ()))
    subprocess.run([needs.tool("cpio"), "-id", "--quiet", "lab/*"], input=packed, cwd=tmp_path, check=True)
    lab = tmp_path / "lab"
    code = f"import sys; sys.path.insert(0, {str(lab)!r}); import hatch_bpf.lab.guest.init as i; print(i.__file__)"
    done = subprocess.run([sys.executable, "-ISB", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(lab / "hatch_bpf" / "lab" / "guest" / "init.py"), "")


def test_random_numbers_before_devtmpfs_is_mounted() -> None:
    """Python asks for them as it starts, and an old kernel has none yet but in /dev/urandom."""
    root = GuestRoot({}, str(interpreter()), "", "x86_64", "")
    packed = common_archive(Payload(root, {}, {}, ()))
    listed = subprocess.run(
        [needs.tool("cpio"), "-itv", "--quiet"], input=packed, capture_output=True, check=True
    ).stdout.decode()
    (line,) = (line for line in listed.splitlines() if line.endswith("dev/urandom"))
    assert line.startswith("crw-rw-rw-")
    assert " 1,   9 " in line


def test_modules_are_compiled_for_a_guest(tmp_path: Path) -> None:
    """Python takes them although the times of their sources are others than theirs: this source says something else."""
    sources = {
        "site/colour.py": cpio.file("print('compiled')\n"),
        "site/template.py": cpio.file("{{ name }} = 1 2\n"),
        "site/packages/__init__.py": cpio.file(""),
    }
    tests = {"tests/test_x.py": cpio.file("")}
    root = GuestRoot({}, str(interpreter()), "", "x86_64", PYTHON_VERSION)
    packed = common_archive(Payload(root, sources, tests, ()))
    folder = unpack(packed, tmp_path / "root")
    compiled = [path.relative_to(folder).as_posix() for path in folder.rglob("*.pyc") if "lab" not in path.parts]
    tag = sys.implementation.cache_tag
    assert sorted(compiled) == [f"site/__pycache__/colour.{tag}.pyc", f"site/packages/__pycache__/__init__.{tag}.pyc"]
    (folder / "site/colour.py").write_text("print('from its source')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import colour"], cwd=folder / "site", capture_output=True, text=True, check=True
    )
    assert done.stdout == "compiled\n"


def test_modules_are_not_compiled_for_another_python() -> None:
    root = GuestRoot({}, "/usr/bin/python3.9", "", "x86_64", "3.9")
    assert b".pyc" not in common_archive(Payload(root, {}, {}, ()))
