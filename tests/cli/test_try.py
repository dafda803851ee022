"""`hatch-bpf try`, as a user runs it, with a stand-in for qemu; `make test-kernels` boots real kernels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hatch_bpf.cli import main
from tests.cli.test_main import run
from tests.common import fake_qemu
from tests.common.projects import KERNELS, make_project

KERNEL = "debian/12/x86_64/6.1.0-50-cloud-amd64"
UP = 'say(up=True, release="6.1.0-50-cloud-amd64")\n'
MAIN = "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"
WORKS = UP + "load('attaches')\nsay(done=True, oom=0)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    options = f'archs = ["x86_64"]\nbtf-archive = "{KERNELS}"\nkernels = ["{KERNEL}", "debian/11/*/*"]'
    return make_project(tmp_path / "p", options=options)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images" / f"{KERNEL}.vmlinuz"
    path.parent.mkdir(parents=True)
    path.write_bytes(fake_qemu.bzimage())
    return tmp_path / "images"


def test_what_is_behind_two_dashes_is_the_command() -> None:
    parse = main._parser().parse_args
    options = parse(["try", "a/*/*/*", "--json", "--", "tool", "--json", "--", "x"])
    assert (options.patterns, options.json, options.guest_command) == (["a/*/*/*"], True, ["tool", "--json", "--", "x"])
    assert parse(["try", "a/*/*/*"]).guest_command == []


@pytest.mark.parametrize(
    "option", ["--memory=0", "--memory=-5", "--memory=1G", "--jobs=0", "--timeout=0", "--timeout=nan", "--timeout=inf"]
)
def test_numbers_that_make_no_sense(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["try", option])
    name, _, value = option.partition("=")
    assert f"argument {name}: '{value}' is not a " in capsys.readouterr().err


def test_a_kernel_is_tried(project: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_qemu.install(tmp_path / "bin", WORKS, monkeypatch)
    done = run(
        "try", "--images", images, "--json", "--junit", "t.xml", "--html", "t.html", cwd=project, env={"PATH": path}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (tried,) = told["kernels"]
    (program,) = tried["programs"]
    assert (tried["kernel"], tried["fault"], program["program"]) == (KERNEL, "", "on_switch")
    assert (program["verdict"], program["own"]["happened"], program["agrees"]) == ("loads", "attaches", True)
    (left_out,) = told["not_tried"]
    assert left_out["kernel"].startswith("debian/11/")
    assert "hatch-bpf kernels add PACKAGE --image" in left_out["why"]
    suites = ElementTree.parse(project / "t.xml").getroot()
    assert [suite.get("failures") for suite in suites] == ["0", None]
    page = (project / "t.html").read_text()
    assert "Tried on real kernels" in page
    assert "loads: attaches" in page


def test_a_disagreement_comes_first(
    project: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = UP + "load('refused', errno='EINVAL', log='unknown func bpf_x#9')\nsay(done=True, oom=0)"
    path = fake_qemu.install(tmp_path / "bin", refused, monkeypatch)
    done = run(
        "try", KERNEL, "--images", images, "--junit", "t.xml", "--html", "t.html", cwd=project, env={"PATH": path}
    )
    assert done.returncode == 1
    assert done.stdout.count("WRONG VERDICT: prog.on_switch on debian/12") == 2
    assert "unknown func bpf_x#9" in done.stdout
    assert "hatch-bpf 0.1.0 says `loads` of program `on_switch`" in done.stdout
    assert "2 verdicts wrong" in done.stdout
    (suite,) = ElementTree.parse(project / "t.xml").getroot()
    assert suite.get("failures") == "2"
    assert "Wrong verdict: prog.on_switch" in (project / "t.html").read_text()


def test_no_image(project: Path) -> None:
    done = run("try", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "none of the 2 kernels can be tried: there is no image of it: get its package, then" in done.stderr


def test_no_qemu(project: Path, images: Path, tmp_path: Path) -> None:
    done = run("try", KERNEL, "--images", images, cwd=project, env={"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "qemu-system-x86_64, which boots kernels of x86_64, is not installed: apt install qemu" in done.stderr


def test_a_pattern_that_matches_nothing(project: Path, images: Path) -> None:
    done = run("try", "debian/99/*/*", "--images", images, cwd=project)
    assert done.returncode == 2
    assert "debian/99/*/* matches none of the 2 kernels of the matrix" in done.stderr


class Hanging:
    """The command, with a guest that hangs."""

    def __init__(self, project: Path, images: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pid_file, self.temporary = folder / "pid", folder / "tmp"
        self.temporary.mkdir()
        body = f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
        fake_qemu.install(folder / "bin", body, monkeypatch)
        self.running = subprocess.Popen(
            [sys.executable, "-c", MAIN, "try", KERNEL, "--images", str(images)],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self.temporary)},
        )
        for _ in range(1200):
            if pid_file.exists() and pid_file.read_text():
                break
            time.sleep(0.05)
        self.qemu = Path("/proc", pid_file.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(
    project: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    hanging = Hanging(project, images, tmp_path, monkeypatch)
    hanging.running.send_signal(number)
    _, said = hanging.running.communicate(timeout=60)
    assert hanging.running.returncode == 130, said
    assert said.decode().endswith("hatch-bpf: interrupted\n")
    assert not hanging.qemu.exists()
    assert list(hanging.temporary.iterdir()) == []


def test_no_guest_outlives_a_command_that_is_killed(
    project: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging(project, images, tmp_path, monkeypatch)
    hanging.running.kill()
    hanging.running.communicate(timeout=60)
    for _ in range(600):
        if not runs(hanging.qemu):
            break
        time.sleep(0.05)
    assert not runs(hanging.qemu)


def runs(process: Path) -> bool:
    """Whether a process runs, and is no zombie that nobody has waited for yet."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
