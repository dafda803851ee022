"""Where the templates are, and how they are read.

Input: nothing. Output: a Jinja2 environment in which a name that the template doesn't get is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent.parent
FOLDERS = tuple(folder for folder in (_HERE / "templates", _HERE.parent / "templates") if folder.is_dir())
"""Where the templates are: in a wheel inside the package, in the source tree beside it."""


def environment(*, autoescape: bool = False) -> jinja2.Environment:
    """Over the templates."""
    import jinja2  # late, for who only wants to know where they are

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDERS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
