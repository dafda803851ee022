"""The example, installed alone from its wheel and used as its users do: through its console script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler import bpftool
from hatch_bpf.kernels import HOST_BTF
from hatch_bpf.kernels.archive import list_kernels, read_archived
from hatch_bpf.objects.model import read_object
from hatch_bpf.runtime.host.embedded import Embedded
from tests import soak
from tests.common import needs
from tests.common.projects import KERNELS, REPOSITORY, SYSTEM_LIBBPF, build_wheel, pip_wheel, wheel_files
from tests.repository.test_readme import code_block

EXAMPLE = REPOSITORY / "example_project"
HIDE_BTF = "mount -t tmpfs none /sys/kernel/btf"
HIDE_LIBBPF = """\
mount -t tmpfs none {scratch}
mkdir {scratch}/upper {scratch}/work
for path in {folder}/libbpf.so*; do mknod {scratch}/upper/${{path##*/}} c 0 0; done
mount -t overlay -o lowerdir={folder},upperdir={scratch}/upper,workdir={scratch}/work none {folder}
"""
"""Cover the folder of libbpf.so with an overlay in which it is deleted."""
PORT = re.compile(r"^127\.0\.0\.1 +(\d+) +-> 127\.0\.0\.1 +(\d+) +\d+\.\d{3}$")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.tool("clang")
    needs.own_libbpf()
    folder = tmp_path_factory.mktemp("example")
    return build_wheel(copy_of_example(folder / "example"), folder / "out")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the example and nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    return install(wheel, folder)


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Path]:
    """A cgroup in which a process talks TCP to itself."""
    needs.root_bpf()
    group = needs.cgroup2() / f"hatch-bpf-test-{os.getpid()}"
    group.mkdir()
    join = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    talker = subprocess.Popen(["sh", "-c", join, "sh", sys.executable, EXAMPLE / "demo.py", "--traffic"])
    try:
        yield group
    finally:
        talker.kill()
        talker.wait()
        group.rmdir()


def copy_of_example(folder: Path) -> Path:
    """The example's files without what an editable build may have left."""
    ignore = shutil.ignore_patterns("_bpf", "*_skel.py", "__pycache__", "dist")
    return Path(shutil.copytree(EXAMPLE, folder, ignore=ignore))


def install(wheel: Path, folder: Path) -> Path:
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    listing = subprocess.run([*pip, "list", "--format", "json"], capture_output=True, text=True, check=True).stdout
    assert [package["name"] for package in json.loads(listing)] == ["tcprtt"]
    return folder / "bin"


def run(installed: Path, *arguments: object, before: str = "", user: str = "") -> subprocess.CompletedProcess[str]:
    """Run `tcprtt`, as root or another user, in a mount namespace prepared by the shell commands `before`."""
    command = [str(installed / "tcprtt"), *map(str, arguments)]
    if user:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    if before:
        needs.private_mounts()
        command = ["unshare", "--mount", "sh", "-e", "-c", f'{before}\nexec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")


def events(done: subprocess.CompletedProcess[str]) -> list[re.Match[str]]:
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["Src", "addr", "Port", "->", "Dest", "addr", "Port", "RTT", "(ms)"]
    found = [PORT.match(line) for line in lines]
    assert all(found), lines
    return [match for match in found if match]


def test_the_figures_of_publishing_are_about_right(wheel: Path) -> None:
    """A wheel grows with the runtime and the kernel it is built on, so a fifth more or less is let pass."""
    page = (REPOSITORY / "docs" / "publishing.md").read_text()
    (shown,) = re.findall(r"`(tcprtt-\S+)`,\s+has ([\d,]+) bytes", page)
    assert wheel.name == shown[0]
    sizes = {name: len(data) for name, data in wheel_files(wheel).items()}
    listed = re.findall(r"^\| `(tcprtt/\S+)` \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(listed) == 6
    measured = [sum(size for name, size in sizes.items() if name.startswith(path)) for path, _ in listed]
    for (path, figure), size in zip([shown, *listed], [wheel.stat().st_size, *measured], strict=True):
        assert int(figure.replace(",", "")) == pytest.approx(size, rel=0.2), path


def test_with_the_kernels_own_btf(installed: Path, cgroup: Path) -> None:
    done = run(installed, "--cgroup", cgroup, "--count", 10)
    assert len(events(done)) == 10
    assert "the kernel's own BTF, /sys/kernel/btf/vmlinux" in done.stderr


def test_without_the_kernels_btf(installed: Path, cgroup: Path) -> None:
    done = run(installed, "--cgroup", cgroup, "--count", 10, before=HIDE_BTF)
    assert len(events(done)) == 10
    assert "the BTF embedded in the package for " in done.stderr
    assert os.uname().release in done.stderr


def test_an_embedded_btf_gives_the_same_values_as_the_kernels(installed: Path, cgroup: Path) -> None:
    """Loopback RTTs are below 100 ms; a wrong offset reads other fields of the socket."""
    for before in ("", HIDE_BTF):
        for event in events(run(installed, "--cgroup", cgroup, "--count", 20, before=before)):
            assert 0 < float(event.string.split()[-1]) < 100


def test_a_filter_is_set_before_the_load(installed: Path, cgroup: Path) -> None:
    limit = 1  # us; some are faster on fast machines, so only the meaning is tested
    done = run(installed, "--cgroup", cgroup, "--count", 10, "--min-rtt-us", limit)
    assert all(float(event.string.split()[-1]) * 1000 >= limit for event in events(done))


@pytest.mark.parametrize("limit", ["-1", str(1 << 32)])
def test_a_filter_that_does_not_fit_is_told(installed: Path, limit: str) -> None:
    done = run(installed, "--min-rtt-us", limit)
    told = f"tcprtt: min_rtt_us: {limit} does not fit c_uint: 0 to 4294967295\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_the_readmes_code_runs(installed: Path, cgroup: Path) -> None:
    code = code_block("python").replace('"/sys/fs/cgroup"', repr(str(cgroup)))
    code = code.replace("min_rtt_us = 100", "min_rtt_us = 0") + "            break\n"
    done = subprocess.run(
        [installed / "python", "-c", code], capture_output=True, text=True, check=False, timeout=60, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("the kernel's own BTF")
    rtt, lost = second.split()
    assert (int(rtt) > 0, int(lost) >= 0) == (True, True)


def test_nothing_stays_attached(installed: Path, cgroup: Path) -> None:
    bpftool_path = needs.tool("bpftool")
    events(run(installed, "--cgroup", cgroup, "--count", 1))
    shown = subprocess.run([bpftool_path, "cgroup", "show", cgroup], capture_output=True, text=True, check=True)
    assert "sock_ops" not in shown.stdout


def test_under_load_every_event_is_reported_or_counted_as_lost(installed: Path) -> None:
    figures = soak.run(installed / "tcprtt", seconds=20)
    assert figures.faults() == [], figures


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("tcprtt: "), done.stderr
    return done.stderr


def test_not_root(installed: Path, cgroup: Path) -> None:
    subprocess.run(["chmod", "-R", "a+rX", installed.parent.parent], check=True)
    for folder in installed.parents:
        if os.stat(folder).st_mode & 0o005 != 0o005 and folder.owner() == "root" and "pytest" in str(folder):
            folder.chmod(folder.stat().st_mode | 0o005)
    said = refusal(run(installed, "--cgroup", cgroup, user="65534"))
    assert "root" in said
    assert "CAP_BPF" in said


def test_no_libbpf(cgroup: Path, tmp_path: Path) -> None:
    """A wheel that brings none, on a host that has none."""
    project = copy_of_example(tmp_path / "example")
    with (project / "pyproject.toml").open("a") as file:
        file.write(SYSTEM_LIBBPF)
    bin_dir = install(build_wheel(project, tmp_path / "out"), tmp_path / "venv")
    (tmp_path / "scratch").mkdir()
    libraries = sorted(Path("/usr/lib").glob("**/libbpf.so.1")) + sorted(Path("/usr/lib64").glob("libbpf.so.1"))
    if not libraries:
        needs.missing("libbpf.so.1 is not in /usr/lib")
    hide = HIDE_LIBBPF.format(folder=libraries[0].parent, scratch=tmp_path / "scratch")
    said = refusal(run(bin_dir, "--cgroup", cgroup, before=hide))
    assert "libbpf" in said
    assert "apt install libbpf1" in said
    assert "dnf install libbpf" in said
    assert "apk add libbpf" in said


def test_a_kernel_that_is_not_in_the_wheel(tmp_path: Path, cgroup: Path) -> None:
    needs.private_mounts()
    project = copy_of_example(tmp_path / "example")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace(', "host"]', "]"))
    bin_dir = install(build_wheel(project, tmp_path / "out"), tmp_path / "venv")
    said = refusal(run(bin_dir, "--cgroup", cgroup, before=HIDE_BTF))
    assert os.uname().release in said, "what was looked for"
    assert "6.1.0-50-cloud-amd64" in said, "what is embedded"


def test_a_folder_that_is_no_cgroup(installed: Path, cgroup: Path) -> None:
    assert cgroup.exists()
    assert "/no/such/cgroup" in refusal(run(installed, "--cgroup", "/no/such/cgroup"))
    assert "/proc" in refusal(run(installed, "--cgroup", "/proc"))


def test_a_file_that_is_no_btf(installed: Path, cgroup: Path) -> None:
    assert "/no/such/file" in refusal(run(installed, "--cgroup", cgroup, "--btf", "/no/such/file"))
    assert "/etc/passwd" in refusal(run(installed, "--cgroup", cgroup, "--btf", "/etc/passwd"))


def test_an_explicit_btf_comes_first(installed: Path, cgroup: Path) -> None:
    done = run(installed, "--cgroup", cgroup, "--count", 1, "--btf", HOST_BTF)
    assert len(events(done)) == 1
    assert "the kernel's own BTF" not in done.stderr


ELSEWHERE = {
    "TZ": "Asia/Kathmandu",
    "LC_ALL": "POSIX",
    "LANG": "tr_TR.UTF-8",
    "PYTHONHASHSEED": "7",
    "PYTHONUTF8": "0",
    "CPATH": "/nowhere",
}
SETUPTOOLS = """\
[build-system]
requires = ["setuptools>=77", "hatch-bpf"]
build-backend = "setuptools.build_meta"

[project]
name = "tcprtt"
version = "1.0"

[tool.setuptools]
packages = ["tcprtt"]
package-dir = { "" = "src" }
package-data = { tcprtt = ["py.typed"] }
exclude-package-data = { tcprtt = ["*.bpf.c"] }

[tool.hatch-bpf]
"""


def test_the_wheel_is_the_same_wherever_and_whoever_builds_it(wheel: Path, tmp_path: Path) -> None:
    """In another folder, by another user with another umask, time zone, locale, hash seed and cache; with hatchling and
    with setuptools."""
    needs.private_mounts()
    project = copy_of_example(tmp_path / "some where" / "else")
    # root's own files, but the process has another user's number, and that user is not known
    other_user = ("unshare", "--user", "--map-user=54321", "sh", "-c", 'umask 077; exec "$@"', "sh")
    env = {**ELSEWHERE, "HATCH_BPF_CACHE": str(tmp_path / "cache")}
    for cache in ("cold", "warm"):
        done = pip_wheel(project, tmp_path / cache, env=env, prefix=other_user)
        assert done.returncode == 0, done.stdout
        (again,) = (tmp_path / cache).glob("*.whl")
        assert again.name == wheel.name
        assert again.read_bytes() == wheel.read_bytes(), cache
    table = (project / "pyproject.toml").read_text().split("[tool.hatch.build.hooks.bpf]\n")[1]
    (project / "pyproject.toml").write_text(SETUPTOOLS + table)
    done = pip_wheel(project, tmp_path / "setuptools", env=env, prefix=other_user)
    assert done.returncode == 0, done.stdout
    (other,) = (tmp_path / "setuptools").glob("*.whl")
    packages = [
        {name: data for name, data in wheel_files(made).items() if name.startswith("tcprtt/")}
        for made in (wheel, other)
    ]
    assert packages[0] == packages[1]


def test_the_record_has_clangs_version(wheel: Path) -> None:
    said = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    assert json.loads(wheel_files(wheel)["tcprtt/_bpf/build.json"])["compiler"] == said


def test_each_btf_is_what_bpftool_makes(wheel: Path) -> None:
    needs.tool("bpftool")
    files = wheel_files(wheel)
    embedded = Embedded(files["tcprtt/_bpf/kernels.btfs"], "kernels.btfs")
    index = embedded.kernels()
    archived = {str(entry.kernel): entry.path for entry in list_kernels(KERNELS)}
    assert set(archived) <= set(index)
    for kernel, number in index.items():
        data = read_archived(archived[kernel]) if kernel in archived else HOST_BTF.read_bytes()
        model = read_object(files[f"tcprtt/_bpf/{kernel.split('/')[2]}/tcprtt.bpf.o"], path="tcprtt.bpf.o")
        assert embedded.btf(number) == bpftool.minimize_by_bpftool([model], Btf(data, source=kernel))


def test_the_demo_without_root_says_what_it_could_not_show(tmp_path: Path) -> None:
    """As root of nothing: in a user namespace where the same files are those of an ordinary user."""
    needs.tool("clang")
    needs.private_mounts()
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        needs.missing("there are no user namespaces")
    done = subprocess.run(
        ["unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, EXAMPLE / "demo.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    if "Could not find a version that satisfies" in done.stdout:
        needs.missing("PyPI cannot be reached, and the demo's isolated build needs it")
    assert done.returncode == 0, done.stdout
    assert "tcprtt/_bpf/x86_64/tcprtt.bpf.o" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "Built and installed, but not loaded: loading BPF needs root; run `sudo make demo`."


def test_the_repositorys_kernels_are_enough_and_small() -> None:
    kernels = [entry.kernel for entry in list_kernels(KERNELS)]
    x86 = {
        kernel.release.split(".")[0] + "." + kernel.release.split(".")[1]
        for kernel in kernels
        if kernel.arch == "x86_64"
    }
    assert {"5.10", "6.1", "6.12", "6.18"} <= x86
    assert any(release.startswith("7.") for release in x86)
    assert any(kernel.arch == "arm64" for kernel in kernels)
    assert sum(path.stat().st_size for path in KERNELS.rglob("*.btf.tar.xz")) < 7_000_000
