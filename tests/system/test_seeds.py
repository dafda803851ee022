"""The programs of the two documents that this project grew from: built through pip, loaded, used, and held to account.

Each is loaded with the kernel's own BTF and, where its kind allows it, with that hidden and the embedded one in its
place. tests/seeds/exercises.py makes happen what a program watches, and compares. `python -m tests.lab --step seeds`
does the same on other kernels.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from hatch_bpf.project.alternatives import NONE, Alternatives
from tests.common import kernel_btfs, needs
from tests.common.on_kernels import KernelTypes, check_on
from tests.common.projects import KERNELS
from tests.seeds import exercises, expected, project

PREPARE = """\
[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
"""
HIDE_BTF = "mount -t tmpfs none /sys/kernel/btf\n"
HIDE_CONFIG = "mount --bind /dev/null /proc/config.gz\n"
"""Nothing at /boot either: the tests that use it see to that."""

NEED_KERNEL_BTF = {"tcprtt_fentry", "runqslower_btf", "bitfields_btf"}
"""Their kind of program can't be loaded without the kernel's own BTF."""
WITHOUT_RELOCATIONS = {"flat_ring", "flat_perf", "fancy_helper_on", "fancy_helper_off"}
SAMPLE = [name for name in exercises.EXERCISES if name not in ("types", "type_id")]
"""Those that need nothing from outside to be checked."""
OLD = ("4.18.", "4.19.")
"""Kernels without ring buffers, if the archive has them."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed in."""
    needs.tool("clang")
    needs.host_btf()
    folder = tmp_path_factory.mktemp("seeds")
    wheel = project.make_wheel(folder, kernels=("debian/*/*/*", "host"))
    return project.install(wheel, folder / "site")


def path_of(site: Path, name: str) -> Path:
    """An object for this machine."""
    arch = build_machine()
    assert arch is not None
    return project.objects(site, arch.name)[name]


def model(site: Path, name: str) -> ObjectModel:
    return read_object(path_of(site, name).read_bytes(), path=f"{name}.bpf.o")


def do(site: Path, exercise: str, *, before: str = "", env: dict[str, str] | None = None) -> dict[str, Any]:
    """Do an exercise in a process with its own namespaces; returns its record."""
    needs.root_bpf()
    needs.private_mounts()
    command = ["unshare", "--mount", "--net", "sh", "-e", "-c", f'{PREPARE}{before}exec "$@"', "sh"]
    command += [sys.executable, os.fspath(project.EXERCISES), exercise]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.fspath(site), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=site, timeout=120)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert isinstance(record, dict)
    return record


def assert_right(record: dict[str, Any], *, btf: str) -> None:
    assert (record["step"], record["wrong"]) == ("right", []), record.get("error")
    assert record["checks"] > 0
    assert record["btf"] == ("none needed" if record["exercise"] in WITHOUT_RELOCATIONS else btf)


@pytest.mark.parametrize("exercise", SAMPLE)
def test_with_the_kernels_own_btf(site: Path, exercise: str) -> None:
    record = do(site, exercise)
    if exercise == "tcprtt_fentry" and record["step"] != "right":
        needs.program_kind("fentry/tcp_close")
    if exercise == "fancy_helper_on" and not knows_the_fancy_helper():
        assert record["step"] == "load"
        return
    assert_right(record, btf="kernel")


def knows_the_fancy_helper() -> bool:
    return bool(expected.kernel_types(needs.host_btf())["tai_exists"])


@pytest.mark.parametrize("exercise", [name for name in SAMPLE if name not in NEED_KERNEL_BTF])
def test_without_the_kernels_btf(site: Path, exercise: str) -> None:
    if exercise == "fancy_helper_on" and not knows_the_fancy_helper():
        pytest.skip("this kernel lacks the helper")
    assert_right(do(site, exercise, before=HIDE_BTF), btf="embedded")


@pytest.mark.parametrize("exercise", sorted(NEED_KERNEL_BTF))
def test_no_embedded_btf_stands_in_for_the_kernels(site: Path, exercise: str) -> None:
    record = do(site, exercise, before=HIDE_BTF)
    assert record["step"] == "load"
    assert "no BTF of its own" in record["error"]


@pytest.mark.parametrize("before", ["", HIDE_BTF], ids=["own", "embedded"])
def test_types_are_as_bpftool_shows_them(site: Path, before: str) -> None:
    record = do(site, "types", before=before)
    assert record["step"] == "right", record
    clang = find_toolchain().version[0]
    assert record["found"] == expected.facts(needs.host_btf(), path_of(site, "types"), clang=clang)


def test_a_types_number_is_the_kernels_only_with_its_own_btf(site: Path) -> None:
    number = expected.task_id(needs.host_btf())
    assert do(site, "type_id")["found"]["task_kernel_id"] == number
    # as the verdict says, a minimized BTF has few types and its own numbers for them
    assert do(site, "type_id", before=HIDE_BTF)["found"]["task_kernel_id"] < 100 < number


def test_the_tick_rate_is_the_kernels(site: Path) -> None:
    config = Path("/proc/config.gz")
    if not config.exists():
        needs.missing("this kernel does not show its configuration in /proc/config.gz")
    wanted = next(line for line in gzip.decompress(config.read_bytes()).decode().split() if "CONFIG_HZ=" in line)
    assert f"CONFIG_HZ={do(site, 'utime')['found']['hz']}" == wanted


def test_a_hidden_configuration_is_an_error_until_the_application_gives_it(site: Path, tmp_path: Path) -> None:
    if Path(f"/boot/config-{os.uname().release}").exists() or not Path("/proc/config.gz").exists():
        pytest.skip("the configuration can't be hidden: it is not in /proc/config.gz alone")
    record = do(site, "utime", before=HIDE_CONFIG)
    assert record["step"] in ("open", "load")
    assert "CONFIG_HZ" in record["error"]
    given = tmp_path / "config"
    given.write_text("CONFIG_HZ=123\n")
    record = do(site, "utime", before=HIDE_CONFIG, env={"KCONFIG": os.fspath(given)})
    assert_right(record, btf="kernel")
    assert record["found"]["hz"] == 123


# verdicts at build time


@cache
def types_of(kernel: str) -> KernelTypes:
    return KernelTypes(Kernel.parse(kernel), Btf(kernel_btfs.read(kernel), source=kernel))


def verdict(
    site: Path, name: str, program: str, kernel: str, *, alternatives: Alternatives = NONE
) -> tuple[Verdict, set[ReasonKind], str]:
    """The verdict of a program on a kernel, the kinds of its reasons, and their text."""
    (report,) = check_on([model(site, name)], [types_of(kernel)], alternatives=alternatives).kernels
    (found,) = (found for found in report.programs if found.program == program)
    return found.verdict, {reason.kind for reason in found.reasons}, "\n".join(r.message for r in found.reasons)


X86_KERNELS = [kernel for kernel in kernel_btfs.EXAMPLES if "/x86_64/" in kernel]


@pytest.mark.parametrize("kernel", X86_KERNELS)
def test_verdicts(site: Path, kernel: str) -> None:
    """What the kernel lab finds to be so."""
    for name, program, wanted in (
        ("flat", "flat_ring", Verdict.LOADS),
        ("flat", "flat_perf", Verdict.LOADS),
        ("tcprtt_fentry", "tcp_close", Verdict.NEEDS_KERNEL_BTF),
        ("opensnoop", "on_enter", Verdict.LOADS),
        ("opensnoop", "on_exit", Verdict.LOADS),
        ("runqslower", "btf_sched_switch", Verdict.NEEDS_KERNEL_BTF),
        ("runqslower", "raw_sched_switch", Verdict.LOADS),
        ("thread", "on_enter", Verdict.LOADS),
        ("utime", "on_enter", Verdict.LOADS),
        ("bitfields", "btf_set_state", Verdict.NEEDS_KERNEL_BTF),
        ("bitfields", "raw_set_state", Verdict.LOADS),
        ("reads", "of_the_kernel", Verdict.LOADS),
        ("reads", "of_the_user", Verdict.LOADS),
        ("types", "learn", Verdict.LOADS),
        ("types", "learn_kernel_id", Verdict.NEEDS_KERNEL_BTF),
    ):
        found, _, text = verdict(site, name, program, kernel)
        assert found is wanted, f"{name}.{program}: {text}"


@pytest.mark.parametrize("kernel", X86_KERNELS)
def test_a_helper_behind_a_setting_is_a_condition_where_the_kernel_lacks_it(site: Path, kernel: str) -> None:
    found, kinds, text = verdict(site, "fancy_helper", "on_enter", kernel)
    if "/5.10." in kernel:
        assert (found, kinds) == (Verdict.CONDITIONAL, {ReasonKind.HELPER_MISSING})
        assert "bpf_ktime_get_tai_ns()" in text
        assert "depends on use_fancy_helper" in text
    else:
        assert found is Verdict.LOADS


def test_old_kernels_lack_the_ring_buffer_and_not_its_twin(site: Path) -> None:
    needs.archive()
    old = [kernel for kernel in kernel_btfs.FILES if kernel.rsplit("/", 1)[1].startswith(OLD)]
    if not old:
        pytest.skip("the archive has no kernel before 5.8")
    either = Alternatives({"flat": ("flat_ring", "flat_perf"), "flow_events": ("ring_events", "perf_events")})
    for kernel in old:
        found, kinds, text = verdict(site, "flat", "flat_ring", kernel, alternatives=either)
        assert found is Verdict.FAILS
        assert ReasonKind.MAP_TYPE_MISSING in kinds
        assert "use bpf_perf_event_output() and a BPF_MAP_TYPE_PERF_EVENT_ARRAY map there" in text
        assert verdict(site, "flat", "flat_perf", kernel, alternatives=either)[0] is Verdict.LOADS


def test_check_says_that_fentry_needs_the_kernels_btf(site: Path) -> None:
    command = [sys.executable, "-c", "import sys; from hatch_bpf.cli.main import main; sys.exit(main())", "check"]
    command += [os.fspath(path_of(site, "tcprtt_fentry")), "--json"]
    command += ["--kernels", os.fspath(KERNELS), "--match", "*/*/x86_64/*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)["kernels"]
    assert [kernel["kernel"] for kernel in kernels] == X86_KERNELS
    assert {program["verdict"] for kernel in kernels for program in kernel["programs"]} == {"needs-kernel-btf"}


def test_a_skeleton_is_typed(site: Path) -> None:
    """By mypy, for the program that the lab alone can run: lines 4 and 5 are right, 6 and 7 are not."""
    user = site / "user.py"
    user.write_text(
        "from seeds.tcprtt_fentry_skel import TcprttFentry\n"
        "with TcprttFentry.run() as skel:\n"
        "    for event in skel.maps.close_events:\n"
        "        number: int = event.srtt_us\n"
        "        address: bytes = event.saddr\n"
        "        text: str = event.srtt_us\n"
        "        skel.maps.nope\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "user.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=site)
    first, second, _ = done.stdout.splitlines()
    assert first.startswith("user.py:6: error: Incompatible types in assignment")
    assert second.startswith('user.py:7: error: "TcprttFentryMaps" has no attribute "nope"')
