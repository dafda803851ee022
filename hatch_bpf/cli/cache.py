"""The command `hatch-bpf cache`: shows what is kept between builds, and removes it.

Input: a command line. Output: an exit status: 0 for success, 1 for failure.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from hatch_bpf.cli.common import HelpFormatter
from hatch_bpf.cli.terminal import console
from hatch_bpf.errors import OutputError

EXAMPLES = """examples:
  hatch-bpf cache info                                    list what is in the cache
  HATCH_BPF_CACHE=.cache hatch-bpf cache info --json      the same for another folder, as JSON
  hatch-bpf cache clear                                   empty the cache; the next build fills it again
"""


def add_cache(commands: Any) -> None:
    """Add `cache` to the commands of an argument parser."""
    parser = commands.add_parser(
        "cache",
        help="show or clear what is kept between builds: downloaded kernels' BTF, and results",
        description="Results that can be recomputed are kept in a folder: the one that HATCH_BPF_CACHE names, else "
        "hatch-bpf in XDG_CACHE_HOME or ~/.cache.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, what, command in (
        ("info", "show the folder, and how many files and bytes of each kind are in it", _info),
        ("clear", "remove everything from it", _clear),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(command=command)


def _info(options: argparse.Namespace) -> int:
    from hatch_bpf.support.store import LIMIT, RESULTS, cache_dir, usage

    folder = cache_dir()
    kinds = usage(folder)
    files, size = sum(kind.entries for kind in kinds), sum(kind.size for kind in kinds)
    if options.json:
        document = {
            "folder": str(folder),
            "kinds": [{"kind": kind.kind, "files": kind.entries, "bytes": kind.size} for kind in kinds],
            "files": files,
            "bytes": size,
            "limit": LIMIT,
        }
        print(json.dumps(document, indent=2))
        return 0
    print(folder)
    rows = [*((kind.kind, kind.entries, kind.size) for kind in kinds), ("in all", files, size)]
    here = console(sys.stdout)
    if here is not None:
        from hatch_bpf.cli.tables import show_table

        show_table(here, "", ("kind", "files", "bytes"), rows)
    else:
        width = max(len(kind) for kind, _, _ in rows)
        for kind, count, taken in rows:
            print(f"{kind.ljust(width)}  {count:>9,} files  {taken:>15,} bytes")
    print(f"{RESULTS} are kept up to {LIMIT:,} bytes, those used last; downloads until they are cleared")
    return 0


def _clear(options: argparse.Namespace) -> int:
    from hatch_bpf.support.store import cache_dir, clear, usage

    folder = cache_dir()
    before = usage(folder)
    try:
        clear(folder)
    except OSError as error:
        raise OutputError(f"{error.filename or folder} cannot be removed: {error.strerror}") from error
    files, size = sum(kind.entries for kind in before), sum(kind.size for kind in before)
    if options.json:
        print(json.dumps({"folder": str(folder), "files": files, "bytes": size}, indent=2))
    else:
        print(f"{folder}: {files:,} files removed, {size:,} bytes")
    return 0
