"""Write tests/constraints.txt: the exact versions that CI tests with. `python tools/pins.py PYTHON...`

Each PYTHON resolves what hatch-bpf and its extras need, without installing it. Where Pythons differ, lines get markers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cli", "test", "zig", "fuzz")
BUILD = ("pip", "setuptools", "wheel")
"""Part of every environment, and needed by builds without isolation."""
HEADER = """\
# The exact versions that CI tests with, made by tools/pins.py; `pip install --constraint`.
"""


def resolve(python: str) -> tuple[str, dict[str, str]]:
    """The version of a Python, and the versions that it would install, by name."""
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    command = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run(
        [*command, f"{ROOT}[{','.join(EXTRAS)}]", *BUILD], stdout=subprocess.PIPE, text=True, check=True
    )
    found = (item["metadata"] for item in json.loads(done.stdout)["install"])
    return version, {item["name"].lower(): item["version"] for item in found if item["name"] != "hatch-bpf"}


def main() -> None:
    resolved = dict(resolve(python) for python in sys.argv[1:])
    lines = set()
    for name in {name for versions in resolved.values() for name in versions}:
        wanted = {versions.get(name) for versions in resolved.values()}
        for python, versions in resolved.items():
            if name in versions:
                # nothing is pinned for the older Pythons that some tests use
                of = f'== "{python}"' if len(wanted) > 1 else '>= "3.10"'
                lines.add(f"{name}=={versions[name]} ; python_version {of}\n")
    (ROOT / "tests" / "constraints.txt").write_text(HEADER + "".join(sorted(lines)))


if __name__ == "__main__":
    main()
