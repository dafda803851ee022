"""Names that no kernel has: what the kernel has instead that is most like them."""

from __future__ import annotations

import subprocess

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.excerpt import Excerpt, NotInExcerptError, RecordedBtf
from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.report import model_of
from hatch_bpf.portability.section_check import check_section
from hatch_bpf.portability.verdicts import Verdict
from hatch_bpf.runtime.sections import parse_section
from tests.common import c_programs, kernel_btfs, needs
from tests.common.on_kernels import KernelTypes, check_on

KERNELS = kernel_btfs.EXAMPLES
SECTIONS = {
    "tp/sched/sched_proces_exec": (Verdict.CANNOT_ATTACH, "did you mean sched_process_exec?"),
    "tp/sched_process_exec": (Verdict.CANNOT_ATTACH, 'write SEC("tp/CATEGORY/sched_process_exec")'),
    "tp/syscalls/sys_enter_openatt": (Verdict.CONDITIONAL, "did you mean sys_enter_openat?"),
    "tracepoint/raw_syscalls/sys_entre": (Verdict.CANNOT_ATTACH, "did you mean sys_enter?"),
    "tp/hatch_bpf_never/hatch_bpf_never": (Verdict.CONDITIONAL, "unless a module has it"),
    "tp/sched/sched_process_exec": (Verdict.LOADS, ""),
    "tp/syscalls/sys_exit_openat": (Verdict.LOADS, ""),
    "tp/syscalls/sys_enter_getpid": (Verdict.LOADS, ""),
    "ksyscall/getpid": (Verdict.LOADS, ""),
    "tp/raw_syscalls/sys_enter": (Verdict.LOADS, ""),
    "raw_tp/sched_swich": (Verdict.CONDITIONAL, "did you mean sched_switch?"),
    "kprobe/vfs_raed": (Verdict.CONDITIONAL, "did you mean vfs_read?"),
    "kprobe/hatch_bpf_never": (Verdict.CONDITIONAL, "so the attach fails unless"),
    "ksyscall/openatt": (Verdict.CONDITIONAL, "did you mean openat?"),
    "fentry/vfs_raed": (Verdict.FAILS, "did you mean vfs_read?"),
    "lsm/file_opne": (Verdict.FAILS, "did you mean file_open?"),
    "tp_btf/sched_swich": (Verdict.FAILS, "did you mean sched_switch?"),
}
"""What is said of each on every kernel."""


def types_of(*kernels: str) -> list[KernelTypes]:
    return [KernelTypes(Kernel.parse(name), Btf(kernel_btfs.read(name), source=name)) for name in kernels]


@pytest.mark.parametrize("section", SECTIONS)
def test_attach_targets(section: str) -> None:
    obj = c_programs.model(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')
    verdict, said = SECTIONS[section]
    for name in (KERNELS[0], KERNELS[-1]):
        report = check_on([obj], types_of(name))
        (program,) = model_of(report).programs
        messages = [reason.message for block in program.blocks for reason in block.reasons]
        assert list(program.verdicts.values()) == [verdict], messages
        assert said in " ".join(messages)
        assert bool(messages) == bool(said)


FIELD = """
struct core task_struct___typo {{ int {field}; }};
SEC("raw_tp/sched_switch") int f(u64 *ctx) {{ return ((struct task_struct___typo *)ctx[1])->{field}; }}
"""


def remedies(field: str, *kernels: str) -> list[str]:
    report = check_on([c_programs.model(FIELD.format(field=field))], types_of(*kernels))
    (program,) = model_of(report).programs
    return [reason.remedy for block in program.blocks for reason in block.reasons]


def test_a_field_that_no_kernel_has_is_a_typo() -> None:
    """Then to leave out kernels is no remedy, for none would be left."""
    (remedy,) = remedies("tgidd", *KERNELS)
    assert remedy.startswith("did you mean tgid? If not, guard it with bpf_core_field_exists(")
    assert "option `kernels`" not in remedy


def test_a_field_that_some_kernels_have_may_be_guarded_or_the_others_left_out() -> None:
    (remedy,) = remedies("__state", *KERNELS)
    assert remedy.startswith("guard it with bpf_core_field_exists(struct task_struct___typo, __state), or remove ")
    assert remedy.endswith("from the option `kernels`")


def test_types_and_enumerators() -> None:
    source = """
    struct core task_strukt { int pid; };
    SEC("raw_tp/sched_switch") int f(u64 *ctx) { return ((struct task_strukt *)ctx[1])->pid; }
    enum bpf_func_id___typo { BPF_FUNC_lop = 1 };
    SEC("raw_tp/sched_switch") int g(u64 *ctx) { return bpf_core_enum_value(enum bpf_func_id___typo, BPF_FUNC_lop); }
    """
    model = model_of(check_on([c_programs.model(source)], types_of(KERNELS[-1])))
    said = [reason.remedy for program in model.programs for block in program.blocks for reason in block.reasons]
    assert [remedy.split("?")[0] for remedy in said] == ["did you mean task_struct", "did you mean BPF_FUNC_loop"]


def test_an_excerpt_has_the_same_names() -> None:
    name = KERNELS[-1]
    asked = [("vfs_raed", t.Kind.FUNC, ""), ("sched_swich", t.Kind.TYPEDEF, "btf_trace_"), ("qqqqqqq", t.Kind.FUNC, "")]
    whole = RecordedBtf(kernel_btfs.read(name), source=name)
    found = [whole.near(one, kind, prefix=prefix) for one, kind, prefix in asked]
    assert found == ["vfs_read", "sched_switch", ""]
    excerpt = Excerpt(whole.pack(), source=name)
    assert [excerpt.near(one, kind, prefix=prefix) for one, kind, prefix in asked] == found
    with pytest.raises(NotInExcerptError):
        excerpt.near("vfs_wriet", t.Kind.FUNC)


def test_every_tracepoint_of_the_running_kernel_is_known() -> None:
    """As the kernel's own list in tracefs has them: none of them may be said to fail."""
    needs.root_bpf()
    needs.private_mounts()
    # a machine may have it mounted already, and then another mount there is refused
    script = "cd /sys/kernel/tracing; [ -d events ] || { mount -t tracefs none . && cd /sys/kernel/tracing; }"
    script += "; cd events && ls -d */*/"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    names = [line.rstrip("/") for line in done.stdout.split() if not line.startswith("ftrace/")]
    assert len(names) > 1000
    features = KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host"))
    program = c_programs.model('SEC("tp/sched/sched_switch") int f(void *ctx) { return 0; }').programs[0]
    wrong = []
    for name in names:
        section = parse_section(f"tp/{name}")
        found = [*check_section(program, section, features, "x86_64")]
        wrong += [(name, reason.what) for reason in found]
    assert wrong == []
