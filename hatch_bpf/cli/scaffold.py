"""`hatch-bpf init`: a name -> a package with a BPF program in it that builds, runs and passes its own test.

Input: a name, a folder, a build system and perhaps a CI service. Output: the new project's files, from
`templates/init`; or `ConfigError`.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from hatch_bpf.errors import ConfigError, Fault, OutputError
from hatch_bpf.project.pyproject import SETUPTOOLS_MINIMUM
from hatch_bpf.support.templating import environment

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""A project's name (PEP 508) that starts with a letter, so that a package can be named after it."""
_TAKEN = frozenset({"hatch_bpf", "hatchling", "mypy", "pytest", "setuptools", "test", "tests"})
"""Packages that the new project needs itself, and folders of tests, besides the standard library's modules."""
_FILES = {
    "pyproject.toml.j2": "pyproject.toml",
    "README.md.j2": "README.md",
    "gitignore.j2": ".gitignore",
    "src/package/__init__.py.j2": "src/{package}/__init__.py",
    "src/package/__main__.py.j2": "src/{package}/__main__.py",
    "src/package/py.typed.j2": "src/{package}/py.typed",
    "src/package/execs.bpf.c.j2": "src/{package}/execs.bpf.c",
    "tests/test_package.py.j2": "tests/test_{package}.py",
}
_CI_FILES = {"github": {"github.yml.j2": ".github/workflows/bpf.yml"}}
"""Jobs that build, check, try and publish, by the service that runs them."""


def create(name: str, *, folder: Path, backend: str, ci: str = "") -> list[Path]:
    """Write a new project into `folder`, whole or not at all, and return its files, relative to the folder.

    `ci` is one of `_CI_FILES`, or empty for no job.

    Raises `ConfigError` for an unusable name, and `OutputError` if the folder cannot be made.
    """
    package = re.sub(r"[-_.]+", "_", name).lower()
    is_taken = keyword.iskeyword(package) or package in sys.stdlib_module_names or package in _TAKEN
    if not _NAME.fullmatch(name) or is_taken:
        raise ConfigError([Fault("NAME", f"cannot be the name of a package (got {name!r}): choose another")])
    is_new = not folder.exists()
    if not is_new and not folder.is_dir():
        raise OutputError(f"{folder} exists and is not a folder: name another")
    if not is_new and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty: name another folder")
    templates = environment()
    written = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder.parent if is_new else folder, prefix=f".{package}."))
        try:
            for source, pattern in {**_FILES, **_CI_FILES.get(ci, {})}.items():
                path = Path(pattern.format(package=package))
                (staged / path).parent.mkdir(parents=True, exist_ok=True)
                template = templates.get_template(f"init/{source}")
                text = template.render(name=name, package=package, backend=backend, setuptools=SETUPTOOLS_MINIMUM)
                (staged / path).write_text(text)
                written.append(path)
            if is_new:
                staged.chmod(0o755)
                os.replace(staged, folder)
            else:  # keep the folder itself: a shell may be in it
                for path in sorted(staged.iterdir()):
                    os.replace(path, folder / path.name)
                staged.rmdir()
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
    return written
