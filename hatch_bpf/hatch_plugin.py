"""hatchling's build hook `bpf`: an adapter that calls the pipeline and hands its artifacts over.

Input: the table `[tool.hatch.build.hooks.bpf]` and hatchling's idea of the wheel. Output: force-included files, and a
tag, for an ordinary wheel or an sdist; files in the source tree for an editable wheel, because it imports from there.

hatchling imports this module for every project with a hook, whatever hook that is, wherever hatch-bpf is installed. So
everything is imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.plugin import hookimpl

if TYPE_CHECKING:
    from hatch_bpf.project.sources import Project
    from hatch_bpf.support.scratch import Scratch
    from hatch_bpf.wheel.artifacts import Artifact, Artifacts

KEY = "tool.hatch.build.hooks.bpf"
RESERVED_HOOK_KEYS = frozenset(
    {"dependencies", "require-runtime-dependencies", "require-runtime-features", "enable-by-default"}
)
"""Keys of every hook's table that belong to hatchling."""
TAG = "py3-none-{platform}"
"""BPF objects of every architecture in one wheel, and Python: it needs no particular Python, and a particular platform
only for bundled libraries. hatchling's own `infer_tag` would name this machine and this Python."""


class BpfBuildHook(BuildHookInterface[BuilderConfig]):
    """Compiles the BPF programs of a wheel's packages."""

    PLUGIN_NAME = "bpf"
    _staged: Scratch | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and hand over what was made; to an sdist too, so that it installs where there is no clang."""
        if self.target_name not in ("wheel", "sdist"):
            return
        with self._user_errors():
            for_sdist = self.target_name == "sdist"
            artifacts = self._build(editable=version == "editable")
            if artifacts is None or version == "editable":
                return
            for file in artifacts.files:
                place = self._place_of(file, taken=build_data["force_include"])
                build_data["force_include"][place] = str(file.tree_path if for_sdist else file.wheel_path)
            if not for_sdist:
                build_data["tag"] = TAG.format(platform=artifacts.platform)
                build_data["pure_python"] = artifacts.platform == "any"

    def _build(self, *, editable: bool) -> Artifacts | None:
        """What was built, and if `editable` is in the tree now; None if the wheel has no such hook."""
        from hatch_bpf import pipeline
        from hatch_bpf.support.context import Context
        from hatch_bpf.support.progress import PacedLines
        from hatch_bpf.wheel import source_tree

        project = load_project(Path(self.root))
        if project is None:  # the hook is switched on for the sdist alone
            return None
        if self.target_name == "sdist":
            project = project.without_host()
        artifacts = pipeline.build(project, Context(self._notify, PacedLines(self._notify)))
        if editable:
            source_tree.write(artifacts.files, root=project.root)
        else:
            source_tree.reject_leftovers(artifacts, project=project, goes_in=self.build_config.include_path)
        return artifacts

    def _place_of(self, file: Artifact, *, taken: Collection[str]) -> str:
        """Where hatchling is to take a file from, from each place once: a file of our own, or what was made, staged."""
        from hatch_bpf.support.files import write_new
        from hatch_bpf.support.scratch import Scratch

        if not isinstance(file.content, bytes) and str(file.content) not in taken:
            return str(file.content)
        if self._staged is None:
            self._staged = Scratch()
        path = Path(self._staged.folder, str(len(taken)))
        write_new(path, file.data)
        return str(path)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was staged, now that it is in the archive."""
        self._unstage()

    def clean(self, versions: list[str]) -> None:  # noqa: ARG002
        """Remove what editable builds wrote."""
        with self._user_errors():
            from hatch_bpf.wheel import source_tree

            project = load_project(Path(self.root))
            if project is not None:
                source_tree.remove(project)

    def _notify(self, text: str) -> None:
        self.app.display_info(f"hatch-bpf: {text}")

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        """Let hatchling say what a user can mend, and leave nothing behind."""
        from hatch_bpf.errors import HatchBpfError
        from hatch_bpf.support.files import disk_errors

        try:
            with disk_errors():
                yield
        except HatchBpfError as error:
            self._unstage()
            self.app.abort(f"hatch-bpf: {error}")
        except BaseException:
            self._unstage()
            raise

    def _unstage(self) -> None:
        if self._staged is not None:
            self._staged.remove()
            self._staged = None


def load_project(root: Path) -> Project | None:
    """The project in a folder as hatchling's configuration of its wheel describes it; None without the hook's table.

    Raises `ConfigError`.
    """
    from hatchling.builders.wheel import WheelBuilder

    from hatch_bpf.project.config import parse_config
    from hatch_bpf.project.sources import find_project

    wheel = WheelBuilder(str(root)).config
    table = wheel.hook_config.get(BpfBuildHook.PLUGIN_NAME)
    if table is None:
        return None
    options = {name: value for name, value in table.items() if name not in RESERVED_HOOK_KEYS}
    return find_project(
        root=root,
        config=parse_config(options, key=KEY, root=root),
        key=KEY,
        packages=wheel.packages or wheel.only_include or ["."],
        wheel_path=wheel.get_distribution_path,
    )


@hookimpl
def hatch_register_build_hook() -> type[BpfBuildHook]:
    """hatchling's entry point."""
    return BpfBuildHook
