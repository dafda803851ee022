"""Where the templates are, and how they are read.

Input: nothing. Output: a Jinja2 environment in which a name that the template doesn't get is an error.
"""

from __future__ import annotations

from pathlib import Path

import jinja2


def environment(*, autoescape: bool = False) -> jinja2.Environment:
    """Over `templates/`: in a wheel it lies inside the package, in the source tree beside it."""
    here = Path(__file__).parent
    folders = [folder for folder in (here / "templates", here.parent / "templates") if folder.is_dir()]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
