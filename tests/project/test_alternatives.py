"""The options `alternatives` and `optional` at build time: names, verdicts, what a build does, and types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from hatch_bpf.arch import X86_64
from hatch_bpf.btf.reader import Btf
from hatch_bpf.cli.main import main
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.errors import ConfigError, SkeletonError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.html import render_html
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.text import render_failures, render_json, render_summary, render_text
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Report, Verdict
from hatch_bpf.project.alternatives import NONE, Alternatives, ObjectAlternatives, users_of_maps
from tests.common import kernel_btfs, needs
from tests.common.on_kernels import KernelTypes
from tests.common.on_kernels import check_on as check_kernels
from tests.common.projects import KERNELS, make_project
from tests.common.skeleton_package import BPF, make_package, skeleton_text

OLD = "debian/11/x86_64/5.10.0"
NEW = "debian/13/x86_64/6.18"
RINGBUF = 27
EITHER = Alternatives({"flat": ("flat_ring", "flat_perf"), "flow_events": ("flow_ring", "flow_perf")})

CHOOSY = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static long (*get_tai)(void) = (void *)208; /* since Linux 6.1 */
static long (*no_helper)(void) = (void *)100000;

SEC("raw_tp/sys_enter") int newer(void *ctx) { return get_tai() == 0; }
SEC("?raw_tp/sys_enter") int older(void *ctx) { return bpf_ktime_get_ns() == 0; }
SEC("raw_tp/sys_enter") int never(void *ctx) { return no_helper() == 0; }

char LICENSE[] SEC("license") = "GPL";
"""


@cache
def compiled(source: Path) -> bytes:
    needs.tool("clang")
    made = compile_source(
        PurePosixPath(source.name),
        root=source.parent,
        arch=X86_64,
        toolchain=find_toolchain(),
        cflags=(),
        environ=dict(os.environ),
    )
    return made.data


def model(source: Path) -> ObjectModel:
    return read_object(compiled(source), path=source.name.replace(".c", ".o"))


@pytest.fixture
def choosy(tmp_path: Path) -> ObjectModel:
    path = tmp_path / "choosy.bpf.c"
    path.write_text(CHOOSY)
    return model(path)


@pytest.fixture
def either() -> ObjectModel:
    return model(BPF / "either.bpf.c")


@cache
def types_of(name: str) -> KernelTypes:
    return KernelTypes(Kernel.parse(name), Btf(kernel_btfs.read(name), source=name))


def full_name(start: str) -> str:
    return next(name for name in kernel_btfs.EXAMPLES if name.startswith(start))


def report_on(obj: ObjectModel, alternatives: Alternatives, *kernels: str) -> Report:
    return check_kernels([obj], [types_of(kernel) for kernel in kernels], alternatives=alternatives)


def by_name(report: Report) -> dict[str, ProgramVerdict]:
    (kernel,) = report.kernels
    return {found.program: found for found in kernel.programs}


# --- names ----------------------------------------------------------------------------------------------------------


def test_an_object_has_the_groups_that_are_all_in_it(either: ObjectModel) -> None:
    declared = Alternatives({**EITHER.groups, "other": ("flat_ring", "elsewhere")}, ("flat_guarded", "elsewhere"))
    found = declared.of_object(either)
    assert [(group.name, group.of_maps) for group in found.groups] == [("flat", False), ("flow_events", True)]
    assert found.optional == ("flat_guarded",)
    assert found.questionable == {"flat_ring", "flat_perf", "flat_guarded"}
    assert not NONE.of_object(either)
    assert NONE.of_object(either) == ObjectAlternatives()


def test_the_users_of_maps_are_those_that_libbpf_relocates(either: ObjectModel) -> None:
    assert users_of_maps([either]) == {
        "flow_perf": ("flat_guarded", "flat_perf"),
        "flow_ring": ("flat_guarded", "flat_ring"),
        "unanswered": ("flat_guarded", "flat_perf", "flat_ring"),
    }


def test_every_wrong_name_is_told(either: ObjectModel, choosy: ObjectModel) -> None:
    wrong = Alternatives(
        {
            "apart": ("newer", "flat_perf"),
            "flat_ring": ("flat_guarded", "flat_perf"),
            "mixed": ("flow_ring", "flat_perf"),
            "near": ("flat_rings", "flat_perf"),
        },
        ("flow_ring",),
    )
    with pytest.raises(ConfigError) as caught:
        wrong.check([either, choosy])
    assert [str(fault).split("; there are")[0] for fault in caught.value.faults] == [
        "optional[0] names no program of any object (got 'flow_ring', did you mean 'flat_ring'?",
        "alternatives.apart must be programs of one object, or ring and perf buffers of one (newer is in "
        "choosy.bpf.o; flat_perf is in either.bpf.o; the option link makes one object of several sources)",
        "alternatives.flat_ring is the name of a program of either.bpf.o; choose another for the group",
        "alternatives.mixed must be programs of one object, or ring and perf buffers of one (flow_ring is in "
        "either.bpf.o; flat_perf is in either.bpf.o; the option link makes one object of several sources)",
        "alternatives.near[0] names no program, ring or perf buffer of any object (got 'flat_rings', "
        "did you mean 'flat_ring'?",
    ]
    Alternatives(EITHER.groups, ("never",)).check([either, choosy])


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_a_member_that_fails_where_another_loads_fails_no_build(choosy: ObjectModel) -> None:
    old = full_name(OLD)
    declared = Alternatives({"either": ("newer", "older")}, ("never",))
    assert report_on(choosy, NONE, old).exit_status == 1
    report = report_on(choosy, declared, old)
    assert report.exit_status == 0
    assert render_failures(report) == ""
    found = by_name(report)
    assert (found["newer"].verdict, found["newer"].stand_in) == (Verdict.FAILS, "older")
    assert ReasonKind.ALTERNATIVE in {reason.kind for reason in found["newer"].reasons}
    assert (found["older"].verdict, found["older"].stand_in) == (Verdict.LOADS, "")
    assert not found["older"].is_optional, 'in a group, SEC("?...") is loaded'
    assert (found["never"].verdict, found["never"].is_optional) == (Verdict.FAILS, True)
    assert "2 fails (1 of them optional, 1 with an alternative)" in render_summary(report)
    text = render_text(report)
    assert "choosy.newer (one of either)" in text
    assert "older of the group either is used instead" in text
    assert "choosy.never (optional)" in text
    (spared,) = (line for line in text.splitlines() if "bpf_ktime_get_tai_ns" in line)
    assert "drop" not in spared


def test_a_group_fails_where_all_of_it_fails(choosy: ObjectModel) -> None:
    declared = Alternatives({"either": ("newer", "never")})
    assert report_on(choosy, declared, full_name(NEW)).exit_status == 0
    report = report_on(choosy, declared, full_name(OLD))
    assert report.exit_status == 1
    assert "choosy.newer, like the others of either, fails on" in render_failures(report)
    assert "choosy.never, like the others of either, fails on" in render_failures(report)
    assert "stands in" not in render_text(report)


def test_the_json_says_it_too(choosy: ObjectModel) -> None:
    report = report_on(choosy, Alternatives({"either": ("newer", "older")}, ("never",)), full_name(OLD))
    (kernel,) = json.loads(render_json(report))["kernels"]
    told = {p["program"]: {k: p[k] for k in ("optional", "group", "stand_in") if k in p} for p in kernel["programs"]}
    assert told == {
        "newer": {"group": "either", "stand_in": "older"},
        "older": {"group": "either"},
        "never": {"optional": True},
    }


def test_the_page_says_it_too(choosy: ObjectModel) -> None:
    declared = Alternatives({"either": ("newer", "older")}, ("never",))
    page = render_html(report_on(choosy, declared, full_name(OLD)))
    assert "No program fails on any kernel but optional ones and those with an alternative" in page
    assert "one of either" in page
    assert "2 programs fail on" in render_html(report_on(choosy, NONE, full_name(OLD)))


def assert_counted_right(either: ObjectModel, kernel: str) -> None:
    """On a kernel without ring buffers."""
    assert {found.verdict for found in by_name(report_on(either, NONE, kernel)).values()} == {Verdict.FAILS}
    report = report_on(either, EITHER, kernel)
    assert report.exit_status == 0, render_failures(report)
    found = by_name(report)
    assert (found["flat_ring"].verdict, found["flat_ring"].stand_in) == (Verdict.FAILS, "flat_perf")
    assert ReasonKind.MAP_TYPE_MISSING in {reason.kind for reason in found["flat_ring"].reasons}
    assert found["flat_perf"].verdict is Verdict.LOADS
    assert found["flat_guarded"].verdict is Verdict.LOADS, "what it refers to and never reaches doesn't matter"
    # the programs' group by itself: then a third program, which is always loaded, uses the ring buffer
    only_programs = Alternatives({"flat": ("flat_ring", "flat_perf")})
    assert report_on(either, only_programs, kernel).exit_status == 1


def test_a_perf_buffer_stands_in_for_a_ring_buffer(either: ObjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = KernelFeatures.map_types.func  # type: ignore[attr-defined]
    monkeypatch.setattr(KernelFeatures, "map_types", property(lambda self: real(self) - {RINGBUF}))
    kernel = full_name(OLD)
    whole = types_of(kernel)
    # the program asks BTF itself, so the enumerator has to be gone from there as well
    data = bytes(whole.btf.data).replace(b"BPF_MAP_TYPE_RINGBUF\0", b"BPF_MAP_TYPE_NOTHERE\0")
    without = KernelTypes(whole.kernel, Btf(data, source=kernel))
    monkeypatch.setattr(sys.modules[__name__], "types_of", lambda _: without)
    assert_counted_right(either, kernel)


def test_kernels_before_ring_buffers_are_counted_right(either: ObjectModel) -> None:
    needs.archive()
    old = [name for name in kernel_btfs.FILES if name.split("/")[-1].startswith(("4.18.", "4.19."))]
    if not old:
        pytest.skip("the archive has no kernel before 5.8")
    for kernel in old:
        assert_counted_right(either, kernel)


def test_where_there_are_ring_buffers_all_load(either: ObjectModel) -> None:
    found = by_name(report_on(either, EITHER, full_name(NEW)))
    assert {verdict.verdict for verdict in found.values()} == {Verdict.LOADS}


# --- projects -------------------------------------------------------------------------------------------------------


def hatch_bpf(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from hatch_bpf.cli.main import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=project)


def test_check_and_build_in_a_project_know_its_groups(tmp_path: Path) -> None:
    needs.tool("clang")
    base = f'archs = ["x86_64"]\nbtf-archive = "{KERNELS}"\nkernels = ["debian/11/x86_64/*"]\n'
    groups = 'alternatives = { either = ["newer", "older"] }\noptional = ["never"]\n'
    for name, options, status in (("with", base + groups, 0), ("without", base, 1)):
        project = make_project(tmp_path / name, options=options, sources={"choosy.bpf.c": CHOOSY})
        assert hatch_bpf(project, "check").returncode == status
        assert hatch_bpf(project, "build").returncode == status
    skeleton = (tmp_path / "with" / "src" / "demo" / "choosy_skel.py").read_text()
    assert "    either: _bpf.Program\n" in skeleton
    wrong = make_project(tmp_path / "wrong", options=base + 'optional = ["nevr"]\n', sources={"choosy.bpf.c": CHOOSY})
    for command, status in (("check", 2), ("build", 1)):
        done = hatch_bpf(wrong, command)
        assert done.returncode == status
        assert "optional[0] names no program of any object (got 'nevr', did you mean 'never'?" in done.stderr


# --- skeletons ------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_group_of_buffers_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    make_package(BPF / "either.bpf.c", tmp_path, events={"flow_events": "flow_event"}, alternatives=EITHER)
    (tmp_path / "user.py").write_text(
        "from demo.either_skel import Either\n"
        "with Either.run() as skel:\n"
        "    skel.maps.flow_events.open()\n"
        "    for event in skel.maps.flow_events:\n"
        "        start: int = event.start_ns\n"
        "    reveal_type(skel.maps.flow_events)\n"
        "    reveal_type(skel.maps.flow_ring.poll(1) + skel.maps.flow_perf.poll(1))\n"
        "    reveal_type(skel.programs.flat)\n"
        "    text: str = skel.explain()\n"
        "    reveal_type([refusal.errno for choice in skel.choices for refusal in choice.refused])\n"
        "    skel.maps.nope\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "user.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert [line.split(": ", 1)[1] for line in done.stdout.splitlines()] == [
        'note: Revealed type is "demo._bpf.runtime.events.source.EventSource[demo.either_skel.flow_event]"',
        'note: Revealed type is "list[demo.either_skel.flow_event]"',
        'note: Revealed type is "demo._bpf.runtime.programs.program.Program"',
        'note: Revealed type is "list[int]"',
        'error: "EitherMaps" has no attribute "nope"  [attr-defined]',
    ]


def test_buffers_of_a_group_carry_the_same_events(tmp_path: Path) -> None:
    needs.tool("clang")
    with pytest.raises(SkeletonError, match=r"carry different events \(flow_ring flow_event, flow_perf bytes\)"):
        skeleton_text(BPF / "either.bpf.c", tmp_path, events={"flow_ring": "flow_event"}, alternatives=EITHER)


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def choosy_object(tmp_path: Path, choosy: ObjectModel) -> Path:
    path = tmp_path / "choosy.bpf.o"
    path.write_bytes(choosy.elf)
    return path


def test_objects_by_themselves_can_be_checked_with_alternatives(
    choosy_object: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["check", str(choosy_object), "--kernels", str(KERNELS), "--match", "debian/11/x86_64/*", "--json"]
    assert main(command) == 1
    assert main([*command, "--optional", "never"]) == 1
    capsys.readouterr()
    assert main([*command, "--optional", "never", "--alternatives", "time=newer,older"]) == 0
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    assert {program["program"]: program["verdict"] for program in kernel["programs"]} == {
        "newer": "fails",
        "older": "loads",
        "never": "fails",
    }


@pytest.mark.parametrize("command", [("check", "--match", "host"), ("skeleton",)])
def test_wrong_names_on_the_command_line(
    choosy_object: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert main([*command, str(choosy_object), "--alternatives", "time=newer,elder", "--optional", "nope"]) != 0
    told = capsys.readouterr().err
    assert "alternatives.time[1] names no program, ring or perf buffer of any object (got 'elder'" in told
    assert "optional[0] names no program of any object (got 'nope'" in told


def test_the_skeleton_of_an_object_can_have_alternatives(tmp_path: Path, choosy_object: Path) -> None:
    out = tmp_path / "out"
    command = ["skeleton", str(choosy_object), "--out", str(out), "--arch", "x86_64", "--optional", "never"]
    assert main([*command, "--alternatives", "time=newer,older"]) == 0
    text = (out / "choosy_skel.py").read_text()
    assert "    time: _bpf.Program\n" in text
    assert 'GroupSpec(\n                "time",\n' in text
