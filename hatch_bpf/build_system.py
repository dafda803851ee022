"""What the adapters of both build systems do: one build for a wheel, an sdist or an editable install.

Input: a project, and what it is built for. Output: `Artifacts`, for the build system to pack; the source tree holds
nothing that must not be packed, and for an editable install what it imports.
"""

from __future__ import annotations

from collections.abc import Callable

from hatch_bpf import pipeline
from hatch_bpf.project.sources import Project
from hatch_bpf.support.context import Context
from hatch_bpf.support.progress import PacedLines
from hatch_bpf.wheel import source_tree
from hatch_bpf.wheel.artifacts import Artifacts


def build_for(purpose: str, project: Project, say: Callable[[str], None], goes_in: Callable[[str], bool]) -> Artifacts:
    """Build a project for a "wheel", an "sdist" or an "editable" install.

    `say` prints a line; `goes_in` says whether the build system packs a file of the source tree, by its path relative
    to the project. Raises the `HatchBpfError` of the stage that fails, and `OutputError` where leftovers would ship.
    """

    def notify(line: str) -> None:
        say(f"hatch-bpf: {line}")

    built = project.without_host() if purpose == "sdist" else project
    artifacts = pipeline.build(built, Context(notify, PacedLines(notify)))
    if purpose == "editable":
        source_tree.write_to_tree(artifacts, project)
    else:
        source_tree.reject_leftovers(artifacts, project, goes_in)
    return artifacts
