"""`events` and `types` in a project of several programs: each skeleton takes what its own program has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.common import needs
from tests.common.projects import make_project, pip_wheel, wheel_files

BUFFER = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {name}_event {{ int number; }};
struct {name}_event *unused __attribute__((unused));

struct {{
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
}} {name}_events SEC(".maps");

SEC("raw_tp/sys_enter") int on_enter(void *ctx) {{ return bpf_ringbuf_query(&{name}_events, 0); }}

char LICENSE[] SEC("license") = "GPL";
"""
SOURCES = {f"{name}.bpf.c": BUFFER.format(name=name) for name in ("one", "other")}


def test_each_program_takes_its_own(tmp_path: Path) -> None:
    needs.tool("clang")
    options = 'events = { one_events = "one_event", other_events = "other_event" }\ntypes = ["one_event"]'
    project = make_project(tmp_path / "project", options=options, sources=SOURCES)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    (wheel,) = (tmp_path / "out").glob("*.whl")
    files = wheel_files(wheel)
    for name, other in (("one", "other"), ("other", "one")):
        skeleton = files[f"demo/{name}_skel.py"].decode()
        assert f"class {name}_event(" in skeleton
        assert f"{other}_event" not in skeleton


def test_what_no_program_has_is_an_error(tmp_path: Path) -> None:
    needs.tool("clang")
    options = 'events = { one_events = "one_event", nope = "other_event" }'
    project = make_project(tmp_path / "project", options=options, sources=SOURCES)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert "events.nope: no ring or perf buffer of that name; its ring and perf buffers are one_events" in done.stdout


def test_maps_of_one_name_in_several_programs(tmp_path: Path) -> None:
    needs.tool("clang")
    options = 'events = { events = "one_event", "other.events" = "other_event" }'
    sources = {name: text.replace("one_events", "events") for name, text in SOURCES.items()}
    sources = {name: text.replace("other_events", "events") for name, text in sources.items()}
    project = make_project(tmp_path / "project", options=options, sources=sources)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    (wheel,) = (tmp_path / "out").glob("*.whl")
    files = wheel_files(wheel)
    assert "events: _bpf.RingBuffer[one_event]" in files["demo/one_skel.py"].decode()
    assert "events: _bpf.RingBuffer[other_event]" in files["demo/other_skel.py"].decode()


@pytest.mark.parametrize("key", ["others.events", "other.nope"])
def test_what_a_named_program_has_not_is_an_error(tmp_path: Path, key: str) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "project", options=f'events = {{ "{key}" = "one_event" }}', sources=SOURCES)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert f"{key.removeprefix('other.')}: no ring or perf buffer of that name; its ring and perf" in done.stdout
