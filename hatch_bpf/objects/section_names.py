"""SEC("...") -> `Section`: what libbpf takes a program for by the name of its ELF section.

Input: a section name, as in `SEC("fentry/tcp_close")`. Output: program type, expected attach type, attach target, and
whether the kernel's own BTF is needed; or None for a name that libbpf does not know. The table is libbpf 1.7's, so that
a section newer than the installed libbpf is known too; the tests compare it with libbpf_prog_type_by_name().
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Target(Enum):
    """What the part after the first slash of a section name is."""

    NONE = "none"
    """Nothing that a kernel's BTF could tell about: a binary, a cgroup hook, a pattern."""
    FUNCTION = "function"
    """A kernel function to probe; found at attach."""
    SYSCALL = "syscall"
    """A system call to probe; found at attach."""
    RAW_TRACEPOINT = "raw tracepoint"
    """A tracepoint; found at attach."""
    BTF_FUNCTION = "BTF function"
    """A kernel function, found in the kernel's BTF at load."""
    BTF_TRACEPOINT = "BTF tracepoint"
    """`btf_trace_NAME`, found in the kernel's BTF at load."""
    LSM_HOOK = "LSM hook"
    """`bpf_lsm_NAME`, found in the kernel's BTF at load."""
    ITERATOR = "iterator"
    """`bpf_iter_NAME`, found in the kernel's BTF at load."""
    STRUCT_OPS = "struct_ops"
    """A member of a struct_ops map's struct; the map says which."""
    BPF_PROGRAM = "BPF program"
    """A function of another BPF program; set by the application before the load."""


BTF_PREFIX = {
    Target.BTF_FUNCTION: "",
    Target.BTF_TRACEPOINT: "btf_trace_",
    Target.LSM_HOOK: "bpf_lsm_",
    Target.ITERATOR: "bpf_iter_",
}
"""What stands before the target's name in the kernel's BTF, for targets that are found at load."""


class AttachTypeUse(Enum):
    """When the kernel looks at the expected attach type."""

    NONE = "none"
    LOAD = "load"
    """At load: an unknown one is refused."""
    ATTACH = "attach"
    """At attach: an unknown one loads and then cannot be attached as the section says."""
    OPTIONAL = "optional"
    """Only newer kernels look at all; what attached before there was an attach type still does."""


@dataclass(frozen=True)
class Section:
    """What one section name means to libbpf."""

    name: str
    program_type: str
    """Name in `enum bpf_prog_type`, without BPF_PROG_TYPE_."""
    attach_type: str = ""
    """Name in `enum bpf_attach_type`, or empty."""
    attach_type_use: AttachTypeUse = AttachTypeUse.NONE
    target_kind: Target = Target.NONE
    target: str = ""
    """Empty also where the application names it at run time: SEC("fentry")."""
    module: str = ""
    """The kernel module that SEC("fentry/module:function") names."""
    sleepable: bool = False
    xdp_frags: bool = False

    @property
    def needs_kernel_btf(self) -> bool:
        """Whether libbpf and the kernel need the kernel's own BTF, so that no embedded one helps."""
        return self.target_kind in (*BTF_PREFIX, Target.STRUCT_OPS)


@dataclass(frozen=True)
class _Definition:
    pattern: str
    """Exact name; with `+`, also anything behind a slash."""
    program_type: str
    attach_type: str = ""
    use: AttachTypeUse = AttachTypeUse.NONE
    target: Target = Target.NONE
    sleepable: bool = False
    xdp_frags: bool = False


def parse_section(name: str) -> Section | None:
    """Look a section name up; a leading `?` is not part of it. None where libbpf could not guess the program type."""
    name = name.removeprefix("?")
    for definition in _DEFINITIONS:
        prefix, plus, _ = definition.pattern.partition("+")
        if name != prefix and not (plus and name.startswith(prefix + "/")):
            continue
        target = name[len(prefix) + 1 :]
        module = ""
        if definition.target in BTF_PREFIX and ":" in target:
            module, _, target = target.partition(":")
        return Section(
            name=name,
            program_type=definition.program_type,
            attach_type=definition.attach_type,
            attach_type_use=definition.use,
            target_kind=definition.target,
            target=target,
            module=module,
            sleepable=definition.sleepable,
            xdp_frags=definition.xdp_frags,
        )
    return None


def section_patterns() -> tuple[str, ...]:
    """Every section name of the table, `+` where something may follow."""
    return tuple(definition.pattern for definition in _DEFINITIONS)


_D = _Definition
_LOAD, _ATTACH, _OPTIONAL = AttachTypeUse.LOAD, AttachTypeUse.ATTACH, AttachTypeUse.OPTIONAL


def _probes() -> list[_Definition]:
    """kprobe and uprobe programs: all of one type, told apart when they are attached."""
    rows = []
    for sleepable in ("", ".s"):
        slow = bool(sleepable)
        rows += [
            _D(f"uprobe{sleepable}+", "KPROBE", sleepable=slow),
            _D(f"uretprobe{sleepable}+", "KPROBE", sleepable=slow),
            _D(f"uprobe.multi{sleepable}+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", _ATTACH, sleepable=slow),
            _D(f"uretprobe.multi{sleepable}+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", _ATTACH, sleepable=slow),
            _D(f"uprobe.session{sleepable}+", "KPROBE", "BPF_TRACE_UPROBE_SESSION", _ATTACH, sleepable=slow),
            _D(f"usdt{sleepable}+", "KPROBE", sleepable=slow),
        ]
    return [
        _D("kprobe+", "KPROBE", target=Target.FUNCTION),
        _D("kretprobe+", "KPROBE", target=Target.FUNCTION),
        _D("kprobe.multi+", "KPROBE", "BPF_TRACE_KPROBE_MULTI", _ATTACH),
        _D("kretprobe.multi+", "KPROBE", "BPF_TRACE_KPROBE_MULTI", _ATTACH),
        _D("kprobe.session+", "KPROBE", "BPF_TRACE_KPROBE_SESSION", _ATTACH),
        _D("ksyscall+", "KPROBE", target=Target.SYSCALL),
        _D("kretsyscall+", "KPROBE", target=Target.SYSCALL),
        *rows,
    ]


def _tracing() -> list[_Definition]:
    """Programs that the kernel's own BTF gives their arguments."""
    function = Target.BTF_FUNCTION
    rows = []
    for suffix in ("", ".s"):
        slow = bool(suffix)
        rows += [
            _D(f"fentry{suffix}+", "TRACING", "BPF_TRACE_FENTRY", _LOAD, function, sleepable=slow),
            _D(f"fexit{suffix}+", "TRACING", "BPF_TRACE_FEXIT", _LOAD, function, sleepable=slow),
            _D(f"fmod_ret{suffix}+", "TRACING", "BPF_MODIFY_RETURN", _LOAD, function, sleepable=slow),
            _D(f"fsession{suffix}+", "TRACING", "BPF_TRACE_FSESSION", _LOAD, function, sleepable=slow),
            _D(f"lsm{suffix}+", "LSM", "BPF_LSM_MAC", _LOAD, Target.LSM_HOOK, sleepable=slow),
            _D(f"iter{suffix}+", "TRACING", "BPF_TRACE_ITER", _LOAD, Target.ITERATOR, sleepable=slow),
            _D(f"struct_ops{suffix}+", "STRUCT_OPS", target=Target.STRUCT_OPS, sleepable=slow),
        ]
    return [
        _D("tp_btf+", "TRACING", "BPF_TRACE_RAW_TP", _LOAD, Target.BTF_TRACEPOINT),
        _D("lsm_cgroup+", "LSM", "BPF_LSM_CGROUP", _LOAD, Target.LSM_HOOK),
        _D("freplace+", "EXT", target=Target.BPF_PROGRAM),
        *rows,
    ]


def _raw_tracepoints() -> list[_Definition]:
    raw = Target.RAW_TRACEPOINT
    return [
        _D("raw_tracepoint+", "RAW_TRACEPOINT", target=raw),
        _D("raw_tp+", "RAW_TRACEPOINT", target=raw),
        _D("raw_tracepoint.w+", "RAW_TRACEPOINT_WRITABLE", target=raw),
        _D("raw_tp.w+", "RAW_TRACEPOINT_WRITABLE", target=raw),
    ]


def _cgroup() -> list[_Definition]:
    rows = [
        _D("cgroup_skb/ingress", "CGROUP_SKB", "BPF_CGROUP_INET_INGRESS", _OPTIONAL),
        _D("cgroup_skb/egress", "CGROUP_SKB", "BPF_CGROUP_INET_EGRESS", _OPTIONAL),
        _D("cgroup/skb", "CGROUP_SKB"),
        _D("cgroup/sock", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_CREATE", _OPTIONAL),
        _D("cgroup/sock_create", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_CREATE", _LOAD),
        _D("cgroup/sock_release", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_RELEASE", _LOAD),
        _D("cgroup/post_bind4", "CGROUP_SOCK", "BPF_CGROUP_INET4_POST_BIND", _LOAD),
        _D("cgroup/post_bind6", "CGROUP_SOCK", "BPF_CGROUP_INET6_POST_BIND", _LOAD),
        _D("cgroup/sysctl", "CGROUP_SYSCTL", "BPF_CGROUP_SYSCTL", _ATTACH),
        _D("cgroup/getsockopt", "CGROUP_SOCKOPT", "BPF_CGROUP_GETSOCKOPT", _LOAD),
        _D("cgroup/setsockopt", "CGROUP_SOCKOPT", "BPF_CGROUP_SETSOCKOPT", _LOAD),
        _D("cgroup/dev", "CGROUP_DEVICE", "BPF_CGROUP_DEVICE", _OPTIONAL),
        _D("sockops", "SOCK_OPS", "BPF_CGROUP_SOCK_OPS", _OPTIONAL),
    ]
    calls = {"bind": "BIND", "connect": "CONNECT", "getpeername": "GETPEERNAME", "getsockname": "GETSOCKNAME"}
    for call, name in calls.items():
        for family in ("4", "6"):
            rows.append(_D(f"cgroup/{call}{family}", "CGROUP_SOCK_ADDR", f"BPF_CGROUP_INET{family}_{name}", _LOAD))
    for call, name in {"sendmsg": "SENDMSG", "recvmsg": "RECVMSG"}.items():
        for family in ("4", "6"):
            rows.append(_D(f"cgroup/{call}{family}", "CGROUP_SOCK_ADDR", f"BPF_CGROUP_UDP{family}_{name}", _LOAD))
    for call in ("connect", "sendmsg", "recvmsg", "getpeername", "getsockname"):
        rows.append(_D(f"cgroup/{call}_unix", "CGROUP_SOCK_ADDR", f"BPF_CGROUP_UNIX_{call.upper()}", _LOAD))
    return rows


def _network() -> list[_Definition]:
    return [
        _D("socket", "SOCKET_FILTER"),
        _D("sk_reuseport/migrate", "SK_REUSEPORT", "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE", _LOAD),
        # the attach type came later than the program type, and is 0 for the kernel that doesn't know it
        _D("sk_reuseport", "SK_REUSEPORT", "BPF_SK_REUSEPORT_SELECT", _OPTIONAL),
        _D("tc/ingress", "SCHED_CLS", "BPF_TCX_INGRESS", _OPTIONAL),
        _D("tc/egress", "SCHED_CLS", "BPF_TCX_EGRESS", _OPTIONAL),
        _D("tcx/ingress", "SCHED_CLS", "BPF_TCX_INGRESS", _ATTACH),
        _D("tcx/egress", "SCHED_CLS", "BPF_TCX_EGRESS", _ATTACH),
        _D("netkit/primary", "SCHED_CLS", "BPF_NETKIT_PRIMARY", _ATTACH),
        _D("netkit/peer", "SCHED_CLS", "BPF_NETKIT_PEER", _ATTACH),
        _D("tc", "SCHED_CLS"),
        _D("classifier", "SCHED_CLS"),
        _D("action", "SCHED_ACT"),
        _D("xdp", "XDP", "BPF_XDP", _OPTIONAL),
        _D("xdp/devmap", "XDP", "BPF_XDP_DEVMAP", _ATTACH),
        _D("xdp/cpumap", "XDP", "BPF_XDP_CPUMAP", _ATTACH),
        _D("xdp.frags", "XDP", "BPF_XDP", _OPTIONAL, xdp_frags=True),
        _D("xdp.frags/devmap", "XDP", "BPF_XDP_DEVMAP", _ATTACH, xdp_frags=True),
        _D("xdp.frags/cpumap", "XDP", "BPF_XDP_CPUMAP", _ATTACH, xdp_frags=True),
        _D("lwt_in", "LWT_IN"),
        _D("lwt_out", "LWT_OUT"),
        _D("lwt_xmit", "LWT_XMIT"),
        _D("lwt_seg6local", "LWT_SEG6LOCAL"),
        _D("sk_skb/stream_parser", "SK_SKB", "BPF_SK_SKB_STREAM_PARSER", _OPTIONAL),
        _D("sk_skb/stream_verdict", "SK_SKB", "BPF_SK_SKB_STREAM_VERDICT", _OPTIONAL),
        _D("sk_skb/verdict", "SK_SKB", "BPF_SK_SKB_VERDICT", _OPTIONAL),
        _D("sk_skb", "SK_SKB"),
        _D("sk_msg", "SK_MSG", "BPF_SK_MSG_VERDICT", _OPTIONAL),
        _D("sk_lookup", "SK_LOOKUP", "BPF_SK_LOOKUP", _LOAD),
        _D("flow_dissector", "FLOW_DISSECTOR", "BPF_FLOW_DISSECTOR", _OPTIONAL),
        _D("netfilter", "NETFILTER", "BPF_NETFILTER", _LOAD),
    ]


_DEFINITIONS: tuple[_Definition, ...] = (
    *_probes(),
    *_tracing(),
    *_raw_tracepoints(),
    _D("tracepoint+", "TRACEPOINT"),
    _D("tp+", "TRACEPOINT"),
    _D("perf_event", "PERF_EVENT"),
    _D("syscall", "SYSCALL", sleepable=True),
    _D("lirc_mode2", "LIRC_MODE2", "BPF_LIRC_MODE2", _OPTIONAL),
    *_cgroup(),
    *_network(),
)
