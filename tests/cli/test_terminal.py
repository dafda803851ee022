"""What a terminal shows: tables and bars with rich, a line without it; nothing of either where there is no terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import pytest

from hatch_bpf.cli import terminal
from hatch_bpf.kernels.archive import pack_archived, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.support.progress import Downloaded
from tests.cli.test_main import MISSING_FIELD, run
from tests.common import kernel_images, needs
from tests.common.archive_server import serve
from tests.common.projects import KERNELS, PROGRAM, bare_environment, make_project
from tests.compiler.test_clang import compile_text
from tests.kernels.remote.test_archive_url import INTERRUPTIBLE

RULE = "─"
NO_RICH = "import sys; sys.modules['rich'] = None; "


@dataclass(frozen=True)
class Shown:
    status: int
    text: str
    """What the terminal got, with all that moves the cursor and colours."""

    @property
    def words(self) -> str:
        """Without that, and without what a narrow terminal makes of it."""
        return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).split())


def on_a_terminal(
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    rich: bool = True,
    width: int = 120,
) -> Shown:
    """Run the command with a terminal for its output and its errors."""
    process, terminal = started(*arguments, cwd=cwd, env=env, rich=rich, width=width)
    text = read_all(terminal)
    os.close(terminal)
    return Shown(process.wait(), text.decode())


def started(
    *arguments: object, cwd: Path | None, env: Mapping[str, str] | None, rich: bool = True, width: int = 120
) -> tuple[subprocess.Popen[bytes], int]:
    """The command, running, and its terminal."""
    script = (
        INTERRUPTIBLE + ("" if rich else NO_RICH) + "import sys; from hatch_bpf.cli.main import main; sys.exit(main())"
    )
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs,
        env=bare_environment(**{"TERM": "xterm-256color", **(env or {})}),
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_all(terminal: int) -> bytes:
    parts = []
    while select.select([terminal], [], [], 60)[0]:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the other side has closed it
            break
        if not data:
            break
        parts.append(data)
    return b"".join(parts)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    folder = tmp_path_factory.mktemp("programs")
    for name, text in (("good", PROGRAM), ("bad", MISSING_FIELD)):
        (folder / f"{name}.bpf.o").write_bytes(compile_text(folder / name, text).data)
    return [folder / "good.bpf.o", folder / "bad.bpf.o"]


def check(programs: Sequence[Path]) -> tuple[object, ...]:
    return ("check", *programs, "--kernels", KERNELS, "--match", "debian/12/*/*")


def test_check_shows_tables_that_say_what_the_plain_text_says(programs: Sequence[Path]) -> None:
    plain = run(*check(programs))
    shown = on_a_terminal(*check(programs))
    assert (plain.returncode, shown.status) == (1, 1)
    assert RULE in shown.text
    assert "\x1b[" in shown.text
    assert RULE not in plain.stdout
    assert "\x1b[" not in plain.stdout
    assert "\x1b[" not in plain.stderr
    # every word of the plain text but the counts that a table has in a column of their own
    lines = [line for line in plain.stdout.splitlines() if line and not re.match(r"[A-Z]+: \d+ kernels?$", line)]
    for line in lines:
        assert " ".join(line.split()) in shown.words, line


def test_check_on_a_narrow_terminal(programs: Sequence[Path]) -> None:
    shown = on_a_terminal(*check(programs), width=40)
    assert shown.status == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.text)
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 40
    assert "no_such_field" in shown.words.replace(" ", "")


def test_json_is_the_same_on_a_terminal(programs: Sequence[Path]) -> None:
    (good, _) = programs
    command = ("inspect", good, "--json")
    assert on_a_terminal(*command).text.replace("\r\n", "\n") == run(*command).stdout


def test_no_colours_for_who_wants_none(programs: Sequence[Path]) -> None:
    for rich in (True, False):
        coloured = on_a_terminal(*check(programs), rich=rich)
        assert re.search(r"\x1b\[[0-9;]*3[1-6]m", coloured.text), "some colour"
        shown = on_a_terminal(*check(programs), rich=rich, env={"NO_COLOR": "1"})
        assert not re.search(r"\x1b\[(?:[0-9]+;)*(?:3|4|9|10)[0-9](?:;[0-9]+)*m", shown.text)


def test_without_rich_a_terminal_gets_the_plain_text(programs: Sequence[Path]) -> None:
    shown = on_a_terminal(*check(programs), rich=False, env={"NO_COLOR": "1"})
    plain = run(*check(programs), env={"COLUMNS": "120"})
    assert shown.text.replace("\r\n", "\n").rpartition("\x1b[K")[2] == plain.stdout


def test_a_dumb_terminal_gets_no_sequences(programs: Sequence[Path]) -> None:
    shown = on_a_terminal(*check(programs), env={"TERM": "dumb"})
    assert "\x1b" not in shown.text
    assert RULE not in shown.text


def test_inspect_and_kernels_list_show_tables(programs: Sequence[Path], tmp_path: Path) -> None:
    good = programs[0]
    shown, plain = on_a_terminal("inspect", good), run("inspect", good)
    assert RULE in shown.text
    for line in plain.stdout.splitlines():
        assert all(word in shown.words for word in line.split()), line
    shown = on_a_terminal("kernels", "list", KERNELS, cwd=tmp_path)
    listed = run("kernels", "list", KERNELS, cwd=tmp_path).stdout.split()
    assert RULE in shown.text
    assert f"{len(listed)} kernels" in shown.words
    for name in listed:
        assert name.replace("/", " ") in shown.words
    assert "in all" in on_a_terminal("cache", "info", env={"HATCH_BPF_CACHE": str(tmp_path)}).words


@pytest.mark.parametrize("rich", [True, False])
def test_progress_of_downloads_and_of_reading(tmp_path: Path, rich: bool) -> None:
    """A slow server, so that there is something to see; the terminal is left as it was."""
    names = [f"debian/12/x86_64/6.1.0-{number}" for number in range(1, 13)]
    archive = kernel_images.archive(tmp_path / "served", names)
    for name in names:
        kernel = Kernel.parse(name)
        (archive / path_of(kernel)).write_bytes(pack_archived(kernel_images.btf(*map(str, range(3000))), kernel))
    (archive / "index.txt").write_text("\n".join(names))
    command = ("kernels", "verify")
    with serve(archive) as server:
        environment = {"HATCH_BPF_CACHE": str(tmp_path / "cache")}
        shown = on_a_terminal(*command, server.url, env=environment, rich=rich, cwd=tmp_path)
        assert shown.status == 0
        assert "12 of 12" in shown.words
        assert "downloading" in shown.words
        assert re.search(r"[0-9.]+ of [0-9.]+ MB", shown.words)
        assert "reading" in shown.words
        last = shown.text.rstrip().rpartition("\n")[2].rpartition("\x1b[K")[2].rpartition("\x1b[2K")[2]
        assert last.strip("\r") == "hatch-bpf: 12 kernels read, 0 faults"
        if rich:
            assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") == 1, "the cursor is back"
        plain = run(*command, server.url, env=environment, cwd=tmp_path)
        assert plain.stderr == "hatch-bpf: 12 kernels read, 0 faults\n"


@pytest.mark.parametrize("rich", [True, False])
def test_a_build_shows_progress_around_its_lines(tmp_path: Path, rich: bool) -> None:
    needs.tool("clang")
    release = "6.1.0-50-cloud-amd64"
    (tmp_path / "served").symlink_to(KERNELS)
    with serve(tmp_path / "served") as server:
        options = f'archs = ["x86_64"]\nbtf-archive = "{server.url}"\nkernels = ["debian/12/x86_64/{release}"]'
        project = make_project(tmp_path / "p", options=options)
        shown = on_a_terminal("build", cwd=project, env={"HATCH_BPF_CACHE": str(tmp_path / "cache")}, rich=rich)
    assert shown.status == 0, shown.text
    assert "1 of 1" in shown.words
    assert "downloading" in shown.words
    lines = re.split(r"[\r\n]+|\x1b\[\??[0-9;]*[A-Za-z]", shown.text)
    assert "hatch-bpf: downloading 1 kernel" in lines
    assert [line for line in lines if line.startswith(f"hatch-bpf: downloaded debian/12/x86_64/{release} (1 of 1, ")]
    assert [line for line in lines if line.startswith("src/demo/prog_skel.py, and ")]


@pytest.mark.parametrize("rich", [True, False])
def test_an_interruption_leaves_the_terminal_as_it_was(tmp_path: Path, rich: bool) -> None:
    name = "debian/12/x86_64/6.1.0-1"
    archive = kernel_images.archive(tmp_path / "served", [name])
    (archive / "index.txt").write_text(name)
    release = threading.Event()
    with serve(archive) as server:
        server.cut = lambda path, _: release.wait(60) if path.endswith(".xz") else None
        environment = {"HATCH_BPF_CACHE": str(tmp_path / "cache")}
        process, terminal = started("kernels", "verify", server.url, cwd=tmp_path, env=environment, rich=rich)
        try:
            text = b""
            while b"downloading" not in text:
                assert select.select([terminal], [], [], 60)[0]
                text += os.read(terminal, 1 << 16)
            process.send_signal(signal.SIGINT)
            text += read_all(terminal)
            assert process.wait(20) == 130
        finally:
            release.set()
            process.kill()
            os.close(terminal)
    shown = Shown(130, text.decode())
    assert "Traceback" not in shown.text
    assert shown.words.endswith("hatch-bpf: interrupted")
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") == int(rich)


def test_the_line_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr("hatch_bpf.cli.terminal.time.monotonic", lambda: now)
    monkeypatch.setenv("COLUMNS", "200")
    line = terminal._Line(sys.stderr)
    line.downloads(Downloaded(0, 4, 0, 0))
    now = 10.0
    line.downloads(Downloaded(1, 4, 20_000_000, 80_000_000))
    line.step("reading", 1, 10, "a/b/c/d")
    now = 12.0
    line.step("reading", 5, 10, "a/b/c/d")
    line.clear()
    told = capsys.readouterr().err.split("\r\x1b[K")
    assert told[1:] == [
        "downloading 0 of 4, 0.0 of 0.0 MB",
        "downloading 1 of 4, 20.0 of 80.0 MB, 2.0 MB/s, 0:30 left",
        "reading 1 of 10: a/b/c/d",
        "reading 5 of 10, 2.0/s, 0:02 left: a/b/c/d",
        "",
    ]
