"""Where kernels' BTF comes from: identities, archives, single files of any form, and the matrix a project declares."""

from __future__ import annotations

from pathlib import Path

ARCHIVE_VARIABLE = "BTFHUB_ARCHIVE"
"""Environment variable that overrides `btf-archive`."""
NOTES = Path("/sys/kernel/notes")
"""Holds the running kernel's build id."""
