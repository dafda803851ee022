"""The table of hosts in docs/publishing.md agrees with what the wheel's tags and the runtime ask for."""

from __future__ import annotations

import re

from tests.common.projects import REPOSITORY
from tests.common.pythons import PYTHONS
from tests.system.test_installers import FIRST

PAGE = (REPOSITORY / "docs" / "publishing.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("| host |")[2].partition("\n\n")[0].splitlines()[2:]
]


def versions(text: str) -> list[tuple[int, int]]:
    return [(int(major), int(minor)) for major, minor in re.findall(r"(\d+)\.(\d+)", text)]


def test_each_host_has_a_c_library_that_the_bundled_libbpf_runs_on() -> None:
    assert len(ROWS) >= 20
    for host, _, libc, *_ in ROWS:
        oldest = (1, 1) if libc.startswith("musl") else (2, 17)
        assert all(version >= oldest for version in versions(libc)), host


def test_the_wheel_runs_at_once_only_where_the_hosts_own_python_is_new_enough() -> None:
    (oldest, *_), *_ = [versions(version) for version in PYTHONS]
    for host, _, _, python, _, wheel, tested in ROWS:
        own = versions(python.partition(";")[0])
        if wheel == "runs":
            assert all(version >= oldest for version in own), host
        if any(version < oldest for version in own):
            assert "Python" in wheel, host
        assert tested, host


def test_the_page_names_the_oldest_python_and_pip() -> None:
    assert f"Python {PYTHONS[0]} or newer, and pip {FIRST} or newer" in PAGE
