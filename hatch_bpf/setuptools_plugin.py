"""setuptools' side: an adapter that adds a step `build_bpf` to `build`.

Input: the table `[tool.hatch-bpf]` of pyproject.toml, and setuptools' idea of the packages. Output: files in the build
folder for a wheel, in the source tree for an editable one and in the tree of an sdist. setuptools calls `finalize()`
for every project that is built where hatch-bpf is installed; it ignores those that do not use hatch-bpf.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, Distribution

from hatch_bpf.build_system import build_for
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.project.sources import source_files
from hatch_bpf.setuptools_project import project_of, user_errors, wants_step
from hatch_bpf.wheel import source_tree
from hatch_bpf.wheel.artifacts import Artifact


class BuildBpf(Command):
    """Compile BPF programs and generate their skeletons."""

    description = "compile BPF programs and generate their skeletons"
    user_options: ClassVar[list[tuple[str, str, str]]] = []
    editable_mode = False  # set by setuptools for an editable build
    platform = "any"  # the platform tag of the wheel, once it is built
    files: tuple[Artifact, ...] = ()  # what was built

    def initialize_options(self) -> None:
        self.build_lib = ""

    def finalize_options(self) -> None:
        self.build_lib = self.get_finalized_command("build").build_lib

    def run(self) -> None:
        """Build. Raises setuptools' own kind of error, which it prints without a traceback."""
        with user_errors():
            project, into = project_of(self.distribution), Path(self.build_lib)
            purpose = "editable" if self.editable_mode else "wheel"
            artifacts = build_for(purpose, project, print, lambda name: (into / project.wheel_path(name)).exists())
            self.files, self.platform = artifacts.files, artifacts.platform
            if not self.editable_mode:
                into.mkdir(parents=True, exist_ok=True)  # it is never emptied: what earlier builds left would ship
                built = {file.wheel_path: file.data for file in artifacts.files}
                source_tree.write(built, root=into, folders=project.folders.values())

    def get_source_files(self) -> list[str]:
        """What an sdist must carry: sources, headers, and an archive's kernels unless only the environment names it."""
        with user_errors():
            return [str(path) for path in source_files(project_of(self.distribution, environ={}))]

    def get_outputs(self) -> list[str]:
        """The files that were built: a strict editable install has these and no others."""
        return [os.path.join(self.build_lib, file.wheel_path) for file in self.files]

    def get_output_mapping(self) -> dict[str, str]:
        """Built file -> the file in the source tree that a strict editable install links to."""
        return dict(zip(self.get_outputs(), (str(file.tree_path) for file in self.files), strict=True))


class BuiltSdist(Command):
    """Mixed into whichever class makes the sdist: adds what was built, so that it installs where there is no clang."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Build first, since a failure must not leave half a tree."""
        with user_errors():
            artifacts = build_for("sdist", project_of(self.distribution), print, set(files).__contains__)
            super().make_release_tree(base_dir, files)  # type: ignore[misc]
            source_tree.write({file.tree_path: file.data for file in artifacts.files}, root=Path(base_dir), folders=())


class BuiltLibrary(Command):
    """Mixed into whichever class installs modules: an egg is made by it alone, without `build`."""

    def build(self) -> None:
        super().build()  # type: ignore[misc]
        self.run_command("build_bpf")


class TaggedWheel(Command):
    """Mixed into whichever class makes the wheel: it is for any Python, and any platform unless it has libraries."""

    def get_tag(self) -> Any:
        if self.distribution.has_ext_modules():  # these are for one Python and one platform
            return super().get_tag()  # type: ignore[misc]
        platform = self.get_finalized_command("build_bpf").platform  # type: ignore[attr-defined]
        self.root_is_pure = platform == "any"
        return "py3", "none", platform


_MIXED = {"sdist": (BuiltSdist,), "bdist_wheel": (TaggedWheel,), "install_lib": (BuiltLibrary,)}


def finalize(distribution: Distribution) -> None:
    """Entry point `setuptools.finalize_distribution_options`: add the step to `build`, if the project wants it."""
    try:
        if not wants_step(Path.cwd()):
            return
    except HatchBpfError as error:  # nothing else would be printed without a traceback this early
        raise SystemExit(f"error: hatch-bpf: {error}") from error
    find, own = distribution.get_command_class, dict[str, type[Any]](build_bpf=BuildBpf)

    def get_command_class(name: str) -> type[Any]:
        """setuptools' class with our part in it, or the project's own: pyproject.toml may name it as late as this."""
        base: type[Any] = own.get(name) or find(name)
        if name in own or name not in ("build", *_MIXED):
            return base
        mixed = _MIXED.get(name, ())
        step = {"sub_commands": [*base.sub_commands, ("build_bpf", None)]} if name == "build" else {}
        return own.setdefault(name, type(name, (*mixed, base), step))

    distribution.get_command_class = get_command_class  # type: ignore[method-assign,assignment]
