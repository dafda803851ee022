"""`hatch-bpf kernels`, as a user runs it."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_bpf.kernels import HOST_BTF
from hatch_bpf.kernels.archive import list_kernels, pack_archived, path_of
from hatch_bpf.kernels.identity import Kernel, host
from tests.cli.test_main import run
from tests.common import kernel_images, needs
from tests.common.archive_server import serve
from tests.common.kernel_images import btf, deb, elf, image, member, rpm, tar
from tests.common.projects import KERNELS as EXAMPLES
from tests.common.projects import make_project, tree_of

OLD, NEW, ARM = "debian/12/x86_64/6.1.0-9-amd64", "debian/12/x86_64/6.1.0-50-amd64", "debian/12/arm64/6.1.0-50-arm64"
BTF = btf("task_struct")
BANNER = (
    b"\0Linux version 6.1.0-50-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1)) #1 SMP\n\0"
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return kernel_images.archive(tmp_path / "kernels", [OLD, NEW, ARM])


@pytest.fixture
def project(tmp_path: Path, archive: Path) -> Path:
    options = f'archs = ["x86_64"]\nbtf-archive = "{archive}"\nkernels = ["debian/12/*/*"]'
    return make_project(tmp_path / "p", options=options)


def refused(*arguments: object, cwd: Path | None = None) -> str:
    """What is said of a command line that fails."""
    done = run(*arguments, cwd=cwd)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("hatch-bpf: ")
    assert "Traceback" not in done.stderr
    return done.stderr


# --- list


def test_list_an_archive(archive: Path) -> None:
    done = run("kernels", "list", archive)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [ARM, OLD, NEW], "")
    assert run("kernels", "list", archive, "--match", "*/*/x86_64/*-50-*").stdout == f"{NEW}\n"
    assert run("kernels", "list", env={"BTFHUB_ARCHIVE": str(archive)}, cwd=archive).stdout.count("\n") == 3


def test_list_as_json(archive: Path) -> None:
    done = run("kernels", "list", archive, "--match", NEW, "--json")
    assert json.loads(done.stdout) == {
        "kernels": [
            {
                "kernel": NEW,
                "distro": "debian",
                "version": "12",
                "arch": "x86_64",
                "release": "6.1.0-50-amd64",
                "btf": str(archive / path_of(Kernel.parse(NEW))),
                "image": "",
            }
        ]
    }


def test_list_a_projects_matrix(project: Path) -> None:
    assert run("kernels", "list", cwd=project).stdout.splitlines() == [OLD, NEW]
    assert run("kernels", "list", "--match", "*/*/*/*-9-*", cwd=project).stdout.splitlines() == [OLD]


def test_list_an_archive_at_a_url_downloads_its_list_alone(archive: Path, tmp_path: Path) -> None:
    assert run("kernels", "list", archive, "--write-index").stdout == f"{archive}/index.txt\n"
    assert (archive / "index.txt").read_text().splitlines() == [ARM, OLD, NEW]
    with serve(archive) as server:
        done = run("kernels", "list", server.url, "--json", env={"HATCH_BPF_CACHE": str(tmp_path / "cache")})
        assert done.returncode == 0, done.stderr
        assert [entry["btf"] for entry in json.loads(done.stdout)["kernels"]] == [
            f"{server.url}/{path_of(Kernel.parse(name))}" for name in (ARM, OLD, NEW)
        ]
        assert server.paths() == ["/index.txt"]
        assert "not its URL" in refused("kernels", "list", server.url, "--write-index")


def test_list_of_nothing(tmp_path: Path) -> None:
    assert "which kernels? Run this in the folder of a project, name an archive" in refused(
        "kernels", "list", cwd=tmp_path
    )
    assert "there is no BTF archive here" in refused("kernels", "list", tmp_path / "absent")
    assert "has no kernels" in refused("kernels", "list", tmp_path)


def test_the_kinds_of_file_an_archive_may_have(tmp_path: Path) -> None:
    """Lists and builds take .btf.tar.gz, .btf.tar.zst and .btf as well as .btf.tar.xz."""
    folder = tmp_path / "d/1/x86_64"
    folder.mkdir(parents=True)
    packed = {f"5.{n}": tar(member(f"5.{n}.btf", btf(f"5.{n}"))) for n in range(3)}
    (folder / "5.0.btf.tar.xz").write_bytes(lzma.compress(packed["5.0"]))
    (folder / "5.1.btf.tar.gz").write_bytes(gzip.compress(packed["5.1"]))
    (folder / "5.2.btf.tar.zst").write_bytes(kernel_images.compressed_by("zstd", "-c", data=packed["5.2"]))
    (folder / "5.3.btf").write_bytes(btf("5.3"))
    assert run("kernels", "list", tmp_path).stdout.split() == [f"d/1/x86_64/5.{n}" for n in range(4)]
    done = run("kernels", "verify", tmp_path, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "hatch-bpf: 4 kernels read, 0 faults\n")
    (folder / "5.1.btf.tar.gz").write_bytes(lzma.compress(packed["5.1"]))
    (folder / "5.3.btf").write_bytes(packed["5.2"])
    done = run("kernels", "verify", tmp_path)
    assert "5.1.btf.tar.gz: not gzip data: it starts with fd 37 7a 58 5a 00; get it anew" in done.stdout
    assert "5.3.btf: not BTF" in done.stdout


# --- add

MEMBER = member("./boot/vmlinuz-6.1.0-50-amd64", kernel_images.bz_image(lzma.compress(image(BTF))))
TAR = tar(member("6.1.0-50-amd64.btf", BTF))
FORMS = {
    "raw BTF": ("any", BTF, ("debian", "12", "x86_64", "6.1.0-50-amd64")),
    "vmlinux": ("vmlinux", elf(BTF) + BANNER, ("", "", "", "")),
    "vmlinuz": ("vmlinuz", image(BTF) + BANNER, ("", "", "x86_64", "")),
    "deb": ("linux.deb", deb(MEMBER), ("debian", "12", "x86_64", "")),
    "rpm": ("k.rpm", rpm({"./lib/modules/6.1.0-50-amd64/vmlinuz": MEMBER[1]}), ("debian", "12", "x86_64", "")),
    "tar": ("6.1.0-50-amd64.btf.tar.gz", gzip.compress(TAR), ("debian", "12", "x86_64", "")),
    "tar of another name": ("x", lzma.compress(TAR), ("debian", "12", "x86_64", "")),
    "place": ("debian/12/amd64/6.1.0-50-amd64.btf.tar.xz", lzma.compress(TAR), ("", "", "", "")),
    "name": ("vendor/v1/amd64/6.1.0-50-amd64.btf", BTF, ("debian", "12", "x86_64", "")),
}  # fmt: skip


def options(parts: tuple[str, ...]) -> list[str]:
    names = ("--distro", "--version", "--arch", "--release")
    return [text for name, part in zip(names, parts, strict=True) if part for text in (name, part)]


@pytest.mark.parametrize("form", FORMS)
def test_add_every_form(tmp_path: Path, form: str) -> None:
    name, content, parts = FORMS[form]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    done = run("kernels", "add", path, "--archive", tmp_path / "new", *options(parts))
    assert done.returncode == 0, done.stderr
    kernel = Kernel.parse(NEW)
    assert done.stdout == f"{tmp_path / 'new' / path_of(kernel)}\n"
    assert tree_of(tmp_path / "new") == {str(path_of(kernel)): pack_archived(BTF, kernel)}


@pytest.mark.parametrize(
    ("form", "missing"),
    [
        ("raw BTF", "--distro, --version, --arch, --release"),
        ("vmlinuz", "--arch"),
        ("deb", "--distro, --version, --arch"),
        ("tar", "--distro, --version, --arch"),
        ("name", "--distro, --version, --arch"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path, form: str, missing: str) -> None:
    name, content, _ = FORMS[form]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    told = refused("kernels", "add", tmp_path / name, "--archive", tmp_path / "new")
    assert "cannot be told from this file" in told
    assert told.endswith(f": give {missing} (- for none)\n")
    assert not (tmp_path / "new").exists()


def test_options_go_before_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(elf(BTF) + BANNER)
    arguments = ["--distro", "-", "--version", "-", "--release", "6.1.0-custom"]
    done = run("kernels", "add", tmp_path / "vmlinux", "--archive", tmp_path / "new", *arguments)
    assert done.stdout == f"{tmp_path}/new/-/-/x86_64/6.1.0-custom.btf.tar.xz\n"
    assert [str(entry.kernel) for entry in list_kernels(tmp_path / "new")] == ["-/-/x86_64/6.1.0-custom"]


@pytest.mark.parametrize(
    ("release", "version", "banner", "expected"),
    [
        ("6.12.95+deb12-amd64", "6.12.95-1~bpo12+1", b"", ("debian", "12")),
        ("6.18.15+deb13-amd64", "6.18.15-1", b"", ("debian", "13")),
        ("5.10.0-32-amd64", "5.10.223-1", b"(debian-kernel@x) (gcc-10 (Debian 10.2.1-6)", ("debian", "")),
        ("5.15.0-91-generic", "", b"(x) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11) #101-Ubuntu", ("ubuntu", "22.04")),
        ("5.4.0-42-generic", "", b"(x) (gcc version 9.3.0 (Ubuntu 9.3.0-10ubuntu2)) #46-Ubuntu", ("ubuntu", "")),
        ("6.5.6-300.fc39.x86_64", "6.5.6-300.fc39", b"(x) (gcc (GCC) 13.2.1 (Red Hat 13.2.1-3))", ("fedora", "39")),
        ("5.10.214-202.855.amzn2.x86_64", "", b"(mockbuild@x)", ("amzn", "2")),
        ("4.18.0-477.el8.x86_64", "4.18.0-477.el8", b"(mockbuild@x) (gcc (GCC) 8.5.0 (Red Hat 8.5.0-18))", ("", "")),
        ("6.8.0-custom", "", b"(me@home) (gcc (GCC) 13.2.0)", ("", "")),
    ],
)  # fmt: skip
def test_distributions_are_told_only_when_it_is_certain(
    tmp_path: Path, release: str, version: str, banner: bytes, expected: tuple[str, str]
) -> None:
    from hatch_bpf.kernels.formats.kernel_file import KernelFile
    from hatch_bpf.kernels.formats.packages import PackagedImage
    from hatch_bpf.kernels.identify import identify

    plain = b"\0Linux version " + release.encode() + b" " + (banner or b"(x)") + b"\n\0"
    packaged = PackagedImage(b"", f"./boot/vmlinuz-{release}", "amd64", version)
    clues = identify(tmp_path / "k.deb", KernelFile(BTF, (plain,), packaged))
    assert (clues.distro, clues.version) == expected
    assert (clues.arch, clues.release) == ("x86_64", release)


def test_real_packages() -> None:
    """Debian's own packages, where the kernel lab has fetched them: the identity that the example's archive has."""
    from hatch_bpf.kernels.formats.kernel_file import read_kernel
    from hatch_bpf.kernels.identify import identify
    from tests.lab.debian import Apt

    known = [entry.kernel for entry in list_kernels(EXAMPLES)]
    there = {
        kernel: path
        for kernel in known
        for kind in ("image", "binary")
        for path in Apt().packages.glob(f"linux-{kind}-{kernel.release}_*.deb")
    }
    if not there:
        pytest.skip("the kernel lab has fetched none of the example's packages yet")
    for kernel, path in list(there.items())[: None if os.environ.get("HATCH_BPF_FULL") else 2]:
        clues = identify(path, read_kernel(path))
        assert (clues.distro, clues.arch, clues.release) == (kernel.distro, kernel.arch, kernel.release)
        assert clues.version in (kernel.version, "")


def test_add_the_host(tmp_path: Path) -> None:
    needs.host_btf()
    done = run("kernels", "add", "host", "--archive", tmp_path)
    assert done.returncode == 0, done.stderr
    (entry,) = list_kernels(tmp_path)
    assert entry.kernel == host()
    subprocess.run(["tar", "-xJf", entry.path, "-C", tmp_path], check=True)
    assert (tmp_path / f"{host().release}.btf").read_bytes() == HOST_BTF.read_bytes()


def test_add_again_and_with_another_btf(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "same.btf").write_bytes(btf(NEW))
    (tmp_path / "other.btf").write_bytes(BTF)
    before = tree_of(archive)
    known = options(tuple(NEW.split("/")))
    done = run("kernels", "add", tmp_path / "same.btf", "--archive", archive, *known)
    assert (done.returncode, done.stdout) == (0, f"{archive / path_of(Kernel.parse(NEW))}\n")
    told = refused("kernels", "add", tmp_path / "other.btf", "--archive", archive, *known)
    assert f"{NEW} is in the archive already, with another BTF: delete {archive}" in told
    assert tree_of(archive) == before


def test_add_keeps_the_list_of_a_served_archive(archive: Path, tmp_path: Path) -> None:
    run("kernels", "list", archive, "--write-index")
    (tmp_path / "x.btf").write_bytes(BTF)
    new = "ubuntu/20.04/x86_64/5.4.0"
    assert run("kernels", "add", tmp_path / "x.btf", "--archive", archive, *options(tuple(new.split("/")))).stdout
    assert (archive / "index.txt").read_text().splitlines() == [ARM, OLD, NEW, new]


def test_what_add_refuses(tmp_path: Path) -> None:
    without = tmp_path / "linux-headers.deb"
    without.write_bytes(deb(member("./usr/src/linux-headers/Makefile", b"all:\n")))
    told = refused("kernels", "add", without, "--archive", tmp_path / "new")
    assert f"{without}: no kernel image (vmlinuz) in this package; the one that has it is linux-image-*" in told
    assert "cannot be read" in refused("kernels", "add", tmp_path / "absent", "--archive", tmp_path / "new")
    two = [tmp_path / "a", tmp_path / "b"]
    assert "give one FILE with it" in refused("kernels", "add", *two, "--archive", tmp_path / "new", "--release", "1")
    (tmp_path / "a").write_bytes(BTF)
    parts = options(("debian", "12", "vax", "6.1"))
    assert '"vax" is not an architecture' in refused("kernels", "add", two[0], "--archive", tmp_path / "new", *parts)
    parts = options(("..", "12", "x86_64", "6.1"))
    assert "cannot be the distro" in refused("kernels", "add", two[0], "--archive", tmp_path / "new", *parts)
    (tmp_path / "file").write_text("")
    parts = options(("debian", "12", "x86_64", "6.1"))
    assert "cannot be made a folder" in refused("kernels", "add", two[0], "--archive", tmp_path / "file", *parts)
    assert not (tmp_path / "new").exists()


def test_add_to_a_full_disk(tmp_path: Path) -> None:
    """A real file system of 100 KB, in a mount namespace of its own."""
    needs.private_mounts()
    (tmp_path / "full").mkdir()
    kernel = next(EXAMPLES.glob("debian/12/x86_64/6.1.*"))
    script = "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"
    full = 'mount -t tmpfs -o size=100k none "$0" && "$@"; status=$?; find "$0" -type f; exit $status'
    command = ["unshare", "--mount", "sh", "-c", full, str(tmp_path / "full"), sys.executable, "-c", script]
    done = subprocess.run(
        [*command, "kernels", "add", str(kernel), "--archive", str(tmp_path / "full")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), "nor is half a file left"
    assert f"{kernel.name} cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


# --- lock and verify


def test_lock_and_what_it_says(project: Path, archive: Path) -> None:
    done = run("kernels", "lock", cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"+ {OLD}", f"+ {NEW}"]
    assert done.stderr.endswith("bpf-kernels.lock: 2 kernels, 2 new, 0 gone, 0 changed\n")
    text = (project / "bpf-kernels.lock").read_text()
    assert f'"{NEW}" = "{hashlib.sha256(btf(NEW)).hexdigest()}"' in text.splitlines()
    again = run("kernels", "lock", cwd=project)
    assert (again.stdout, (project / "bpf-kernels.lock").read_text()) == ("", text)
    kernel_images.archive(archive, ["debian/12/x86_64/6.1.0-51-amd64"])
    (archive / path_of(Kernel.parse(OLD))).unlink()
    (archive / path_of(Kernel.parse(NEW))).write_bytes(pack_archived(BTF, Kernel.parse(NEW)))
    assert run("kernels", "lock", cwd=project).stdout.splitlines() == [
        "+ debian/12/x86_64/6.1.0-51-amd64",
        f"- {OLD}",
        f"! {NEW}",
    ]


def test_a_lock_that_was_merged_badly_is_made_anew(project: Path) -> None:
    run("kernels", "lock", cwd=project)
    text = (project / "bpf-kernels.lock").read_text()
    (project / "bpf-kernels.lock").write_text("<<<<<<< HEAD\n" + text)
    assert "is not a lock of kernels" in refused("kernels", "list", cwd=project)
    done = run("kernels", "lock", cwd=project)
    assert done.returncode == 0
    assert "replacing a lock that cannot be read" in done.stderr
    assert (project / "bpf-kernels.lock").read_text() == text


@pytest.mark.parametrize("kernels", ["[]", '["host"]'])
def test_nothing_to_lock(tmp_path: Path, kernels: str) -> None:
    project = make_project(tmp_path / "p", options=f'archs = ["x86_64"]\nkernels = {kernels}')
    assert "there is nothing to lock: kernels names none, or only the host's" in refused("kernels", "lock", cwd=project)


def test_check_is_held_to_the_lock_unless_it_is_asked_about_others(project: Path, archive: Path) -> None:
    needs.tool("clang")
    shutil.rmtree(archive)
    shutil.copytree(EXAMPLES / "debian", archive / "debian")
    run("kernels", "lock", cwd=project)
    assert run("check", cwd=project).returncode == 0
    path = next((archive / "debian/12/x86_64").glob("6.1.*"))
    kernel = Kernel.parse(f"debian/12/x86_64/{path.name.removesuffix('.btf.tar.xz')}")
    whole = path.read_bytes()
    path.write_bytes(pack_archived(BTF, kernel))
    done = run("check", cwd=project)
    assert (done.returncode, "is not the one that bpf-kernels.lock has" in done.stderr) == (2, True)
    path.write_bytes(whole)
    assert run("check", "--match", "debian/13/*/*", cwd=project).returncode == 0


def test_verify_reports_each_fault(project: Path, archive: Path) -> None:
    done = run("kernels", "verify", cwd=project)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "hatch-bpf: 2 kernels read, 0 faults; there is no bpf-kernels.lock\n"
    run("kernels", "lock", cwd=project)
    assert "0 faults; held to bpf-kernels.lock" in run("kernels", "verify", cwd=project).stderr
    old, new = archive / path_of(Kernel.parse(OLD)), archive / path_of(Kernel.parse(NEW))
    old.write_bytes(old.read_bytes()[:-30])
    new.write_bytes(pack_archived(BTF, Kernel.parse(NEW)))
    done = run("kernels", "verify", cwd=project)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == f"{old}: cut off in the middle of its xz data; get the file anew"
    assert second.startswith(f"{NEW}: the BTF in {new} is not the one that bpf-kernels.lock has: its sha256 is ")
    assert "2 kernels read, 2 faults; held to bpf-kernels.lock" in done.stderr


def test_verify_reads_down_to_the_last_type(archive: Path) -> None:
    broken = bytearray(btf("a", "b"))
    broken[24 + 16 + 7] = 31  # a kind that there is not
    (archive / path_of(Kernel.parse(OLD))).write_bytes(pack_archived(bytes(broken), Kernel.parse(OLD)))
    (archive / "index.txt").write_text(f"{NEW}\n")
    done = run("kernels", "verify", archive)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert str(archive / path_of(Kernel.parse(OLD))) in first
    assert (
        second == f"{archive}/index.txt does not match the folder: run `hatch-bpf kernels list {archive} --write-index`"
    )


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom hatch_bpf.cli.main import main\n"
        "try:\n    main(['kernels', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = ('ctypes', 'elftools', 'urllib.request', 'ssl', 'hatchling', 'jinja2')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("add", "x"), ("list", "--nope"), ("lock", "x")])
def test_a_wrong_command_line_is_status_2(arguments: tuple[str, ...]) -> None:
    done = run("kernels", *arguments)
    assert done.returncode == 2
    assert "usage: hatch-bpf" in done.stderr
