"""What a front end gives a run: the environment's variables, and where progress and warnings are reported.

Input: a front end makes one. Output: a `Context`, which the pipeline hands to every stage that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hatch_bpf.support.progress import Meter

Notify = Callable[[str], None]
"""Called with one line of progress or one warning at a time."""


def ignore(_line: str) -> None:
    """Drop a line: for callers that report nothing."""


@dataclass(frozen=True)
class Context:
    """The surroundings of one run."""

    notify: Notify = ignore
    meter: Meter = field(default_factory=Meter)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def warn(self, text: str) -> None:
        """Report a warning."""
        self.notify(f"warning: {text}")
