"""Print the lowest versions that pyproject.toml allows, as constraints for pip, for `make test-lowest`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib  # nothing else is installed yet

HOSTS = ("rich", "setuptools")
"""Packages that are used where they are installed; extras declare them."""


def main() -> None:
    text = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text()
    table = tomllib.loads(text)
    declared = [*table["build-system"]["requires"], *table["project"]["dependencies"]]
    for extra in table["project"]["optional-dependencies"].values():
        declared += [requirement for requirement in extra if re.split(r"[^\w.-]", requirement)[0] in HOSTS]
    for requirement in sorted(set(declared)):
        match = re.fullmatch(r"([\w.-]+)>=([\d.]+)(;.*)?", requirement.replace(" ", ""))
        if match is None:
            sys.exit(f"pyproject.toml: {requirement} has no lower bound")
        print(f"{match[1]}=={match[2]}")


if __name__ == "__main__":
    main()
