"""Runs inside a guest: load alternatives through a skeleton, and see whether the chosen one works.

Input: the package of tests/lab/programs, importable. Output: a line of JSON, with what `explain()` told.
"""

from __future__ import annotations

import importlib
import json
import os


def main() -> dict[str, object]:
    skeleton = importlib.import_module("own_programs.unlinks_skel")
    try:
        with skeleton.Unlinks.run() as loaded:
            with open("/tmp/a-file", "w"):
                pass
            os.unlink("/tmp/a-file")
            right = loaded.bss.by_helper == loaded.bss.by_relocation == os.getpid()
            told = {"explain": loaded.explain(), "links": [link.program.name for link in loaded.links]}
            (choice,) = loaded.choices
            return {"step": f"works, {choice.chosen}" if right else "reads the wrong place", **told}
    except Exception as error:
        return {"step": "fails", "error": str(error)}


if __name__ == "__main__":
    print(json.dumps(main()), flush=True)
