"""Runs inside a virtual machine of the lab: load alternatives through a skeleton, and see whether the chosen one works.

Input: the package of smoke_either.bpf.c in this folder, and perhaps a file with the BTF to relocate against. Output: a
line of JSON, with what `explain()` told. Standard library only.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main(btf: str | None) -> dict[str, object]:
    skeleton = importlib.import_module("smoke_either.smoke_either_skel")
    try:
        with skeleton.SmokeEither.open(btf=btf).load() as loaded:
            loaded.attach()
            with open("/tmp/a-file", "w"):
                pass
            os.unlink("/tmp/a-file")
            seen = loaded.maps.seen[0]
            right = seen >> 32 == seen & 0xFFFFFFFF == os.getpid()
            told = {"explain": loaded.explain(), "links": [link.program.name for link in loaded.links]}
            (choice,) = loaded.choices
            return {"step": f"works, {choice.chosen}" if right else "reads the wrong place", **told}
    except Exception as error:
        return {"step": "fails", "error": str(error)}


if __name__ == "__main__":
    result = main(sys.argv[1] if len(sys.argv) > 1 else None)
    print(json.dumps({"object": "smoke_either.bpf.o", **result}), flush=True)
