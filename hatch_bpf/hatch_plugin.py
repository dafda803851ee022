"""hatchling's build hook `bpf`: an adapter that calls the pipeline and hands its artifacts over.

Input: the table `[tool.hatch.build.hooks.bpf]` and hatchling's idea of the wheel. Output: for an ordinary wheel or an
sdist, force-included files, and a tag; for an editable wheel, files in the source tree, where it imports from.

hatchling imports this for every project with a hook of any kind, so each function imports what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.plugin import hookimpl

if TYPE_CHECKING:
    from hatch_bpf.project.sources import Project
    from hatch_bpf.support.scratch import Scratch

KEY = "tool.hatch.build.hooks.bpf"
RESERVED_HOOK_KEYS = {"dependencies", "require-runtime-dependencies", "require-runtime-features", "enable-by-default"}
"""Keys of every hook's table that belong to hatchling."""


class BpfBuildHook(BuildHookInterface[BuilderConfig]):
    """Compiles the BPF programs of a wheel's packages."""

    PLUGIN_NAME = "bpf"
    _staged: Scratch | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and hand over what was made; to an sdist too, so that it installs where there is no clang."""
        if self.target_name not in ("wheel", "sdist"):
            return
        with self._user_errors():
            from hatch_bpf.build_system import build_for

            project = load_hatch_project(Path(self.root), self.build_config if self.target_name == "wheel" else None)
            if project is None:  # the hook is switched on for the sdist alone
                return
            purpose = "editable" if version == "editable" else self.target_name
            artifacts = build_for(purpose, project, self.app.display_info, self.build_config.include_path)
            taken: dict[str, str] = build_data["force_include"]
            for file in () if purpose == "editable" else artifacts.files:
                # hatchling takes one file from each place: a second package gets a copy of the runtime's modules
                is_own = isinstance(file.content, Path) and str(file.content) not in taken
                place = str(file.content) if is_own else self._stage(file.data, str(len(taken)))
                taken[place] = str(file.tree_path if purpose == "sdist" else file.wheel_path)
            if purpose == "wheel" and build_data["pure_python"] and not build_data["infer_tag"]:  # else another hook's
                # for any Python, and any platform unless libraries are bundled; `infer_tag` would name this machine
                build_data["tag"] = f"py3-none-{artifacts.platform}"
                build_data["pure_python"] = artifacts.platform == "any"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the staged files, now that they are in the archive."""
        self._unstage()

    def clean(self, versions: list[str]) -> None:  # noqa: ARG002
        """Remove what editable builds wrote."""
        with self._user_errors():
            from hatch_bpf.wheel import source_tree

            if project := load_hatch_project(Path(self.root)):
                source_tree.remove(project)

    def _stage(self, data: bytes, name: str) -> str:
        """Put a file where hatchling can take it from."""
        from hatch_bpf.support.files import write_new
        from hatch_bpf.support.scratch import Scratch

        self._staged = self._staged or Scratch()
        write_new(path := Path(self._staged.folder, name), data)
        return str(path)

    def _unstage(self) -> None:
        if self._staged is not None:
            self._staged.remove()
            self._staged = None

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        """Let hatchling print what a user can mend, and leave nothing behind."""
        from hatch_bpf.errors import HatchBpfError
        from hatch_bpf.support.files import disk_errors

        try:
            with disk_errors():
                yield
        except BaseException as error:
            self._unstage()
            if isinstance(error, HatchBpfError):
                self.app.abort(f"hatch-bpf: {error}")
            raise


def load_hatch_project(root: Path, wheel: BuilderConfig | None = None) -> Project | None:
    """The project, by hatchling's tables or what it has read of them; None without the hook's. Raises `ConfigError`."""
    from hatchling.builders.wheel import WheelBuilder

    from hatch_bpf.project.sources import find_project

    wheel = wheel or WheelBuilder(str(root)).config
    if (table := wheel.hook_config.get(BpfBuildHook.PLUGIN_NAME)) is None:
        return None
    options = {name: value for name, value in table.items() if name not in RESERVED_HOOK_KEYS}
    packages = list(wheel.packages or wheel.only_include or ["."])
    return find_project(options, key=KEY, root=root, packages=packages, wheel_path=wheel.get_distribution_path)


@hookimpl
def hatch_register_build_hook() -> type[BpfBuildHook]:
    """hatchling's entry point."""
    return BpfBuildHook
