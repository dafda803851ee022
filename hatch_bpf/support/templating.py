"""The templates' folders, and the environment that renders them.

Input: nothing. Output: a Jinja2 environment that raises an error for a name that a template is not given.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent.parent
FOLDERS = tuple(folder for folder in (_HERE / "templates", _HERE.parent / "templates") if folder.is_dir())
"""The templates' folders: inside the package in a wheel, beside it in the source tree."""


def environment(*, autoescape: bool = False) -> jinja2.Environment:
    """An environment that loads the templates."""
    import jinja2  # late, for callers that need only the folders

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDERS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
