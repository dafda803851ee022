"""Make the README's pictures again, each from a real run.

    .venv/bin/python tools/pictures.py                    # all of them
    .venv/bin/python tools/pictures.py check --out /tmp   # one of them, elsewhere

Input: this repository. Output: files in `docs/pictures`. `events` loads BPF, so it needs what `make demo` needs.
`report` needs Chromium: `apt install chromium-headless-shell fonts-dejavu-core`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = REPOSITORY / "docs" / "pictures" / "project"
EXAMPLE = REPOSITORY / "example_project"
COMMANDS = Path(sys.executable).parent
SOME_FAIL = 1
"""Exit status of `hatch-bpf check` for the pictured project."""
COLUMNS = 96
PAGE = (1100, 1245)
"""Width and height of the report's picture: the page down to the end of the matrix."""
TERMINAL = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, "DejaVu Sans Mono", monospace }}
.{unique_id}-title {{ font: bold 18px system-ui, "DejaVu Sans", sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""What rich exports, but with the fonts of whoever looks at it: its own template downloads one."""


def main() -> None:
    makers = {"check": check, "report": report, "events": events}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "pictures", nargs="*", metavar="PICTURE", help=f"which to make: {', '.join(makers)} (default: all)"
    )
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures", help="folder to write them to")
    options = parser.parse_args()
    for name in options.pictures or makers:
        picture = makers[name](options.out)
        print(f"{picture}: {picture.stat().st_size:,} bytes")


def check(out: Path) -> Path:
    """A terminal with `hatch-bpf check` of the pictured project."""
    shown, status = on_terminal("hatch-bpf check", cwd=PROJECT, path=COMMANDS, stderr=subprocess.DEVNULL)
    if status != SOME_FAIL:
        sys.exit(f"hatch-bpf check ended with status {status}:\n{shown}")
    return draw(out / "check.svg", "hatch-bpf check", shown)


def report(out: Path) -> Path:
    """The page of `hatch-bpf check --html` for the same project."""
    browser = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not browser:
        sys.exit("Chromium is not installed: apt install chromium-headless-shell fonts-dejavu-core")
    picture = out / "report.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        subprocess.run(
            [COMMANDS / "hatch-bpf", "check", "--html", page], cwd=PROJECT, stdout=subprocess.DEVNULL, check=False
        )
        if not page.exists():
            sys.exit("hatch-bpf check wrote no page")
        size = ",".join(map(str, PAGE))
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}",
             f"--screenshot={picture.resolve()}", page.as_uri()],
            stderr=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
    return picture


def events(out: Path) -> Path:
    """A terminal on which the example prints what the kernel reports."""
    sys.path.insert(0, str(EXAMPLE))
    demo = importlib.import_module("demo")

    with tempfile.TemporaryDirectory() as folder:
        command = demo.install(demo.build(Path(folder)), Path(folder) / "clean")
        with demo.cgroup() as group, demo.traffic(group):
            line = f"tcprtt --cgroup {group} --count 12"
            shown, status = on_terminal(line, cwd=EXAMPLE, path=command.parent, stderr=subprocess.STDOUT)
        if status:
            sys.exit(shown)
    # the demo's own cgroup has a number in its name, which is of no interest
    return draw(out / "events.svg", "tcprtt", shown.replace(str(group), "/sys/fs/cgroup/demo"))


def on_terminal(command: str, *, cwd: Path, path: Path, stderr: int) -> tuple[str, int]:
    """Run a command on a terminal; returns the command line and what was printed, colours included, and the status."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    environ.pop("NO_COLOR", None)
    process = subprocess.Popen(command.split(), cwd=cwd, env=environ, stdin=theirs, stdout=theirs, stderr=stderr)
    os.close(theirs)
    printed = b""
    while chunk := read(ours):
        printed += chunk
    os.close(ours)
    return f"\033[1;32m$\033[0m {command}\n{printed.decode()}".replace("\r\n", "\n"), process.wait()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the last process that had the terminal open has ended
        return b""


def draw(picture: Path, title: str, shown: str) -> Path:
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in Text.from_ansi(shown).split():
        line.rstrip()
        console.print(line)
    svg = console.export_svg(title=title, theme=MONOKAI, code_format=TERMINAL, unique_id=picture.stem)
    picture.write_text(svg)
    return picture


if __name__ == "__main__":
    main()
