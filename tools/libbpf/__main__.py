"""`python -m tools.libbpf [--arch ARCH]...`: put libbpf's libraries and headers into hatch_bpf/_libbpf.

What was built once is kept in hatch-bpf's cache, by what it was built from.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from hatch_bpf.support.store import cache_dir
from tools.libbpf.build import TARGETS, BuildError, build
from tools.libbpf.sources import SourcesError, fetch, install_zig

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "hatch_bpf" / "_libbpf"
ARCHS = tuple(dict.fromkeys(target.arch for target in TARGETS))


def provide(archs: list[str], place: Path = PLACE) -> None:
    """Build the libraries of some architectures, or take them from the cache. Raises `SourcesError`, `BuildError`."""
    kept = cache_dir() / "libbpf" / _key(archs)
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            _say("fetching the sources of libbpf, elfutils and zlib, and zig")
            sources, zig, made = (Path(scratch, name) for name in ("sources", "zig", "made"))
            sources.mkdir()
            fetch(sources)
            install_zig(zig)
            build(sources, made, archs, zig, _say)
            made.replace(kept)
    staged = Path(tempfile.mkdtemp(dir=place.parent, prefix="._libbpf-"))
    shutil.copytree(kept, staged, dirs_exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    staged.chmod(0o755)
    staged.replace(place)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _key(archs: list[str]) -> str:
    """A name for what is built: it changes with the sources, the way to build them, and the architectures."""
    digest = hashlib.sha256(" ".join(sorted(archs)).encode())
    for path in sorted(Path(__file__).parent.glob("*.[hp]*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.libbpf", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arch", action="append", choices=ARCHS, help="may be given more than once; all if not given")
    options = parser.parse_args()
    try:
        provide(options.arch or list(ARCHS))
    except (SourcesError, BuildError) as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
