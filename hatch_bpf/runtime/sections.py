"""What libbpf makes of the name of a program's ELF section. Input: the name, as in `SEC("fentry/tcp_close")`.

Output: a `ProgramSection`: program type, expected attach type, attach target; or None for a name that libbpf does not
know. The table is libbpf 1.8's, so that it also knows sections that are newer than the installed libbpf. The build
reads it too, and the tests compare it with libbpf_prog_type_by_name().
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class Target:
    """What the part of a section name after the first slash names. Plain strings, since enum takes long to import."""

    NONE = "none"
    """Nothing, a pattern, or something that a kernel's BTF says nothing about."""
    BINARY = "binary"
    """A function or probe of a program in user space."""
    FUNCTION = "function"
    """A kernel function to probe; looked up at attach."""
    SYSCALL = "syscall"
    """A system call to probe; looked up at attach."""
    RAW_TRACEPOINT = "raw tracepoint"
    """A tracepoint; looked up at attach."""
    BTF_FUNCTION = "BTF function"
    """A kernel function, looked up in the kernel's BTF at load."""
    BTF_FUNCTIONS = "BTF functions"
    """A pattern of kernel functions, looked up in the kernel's BTF at attach."""
    BTF_TRACEPOINT = "BTF tracepoint"
    """`btf_trace_NAME`, looked up in the kernel's BTF at load."""
    LSM_HOOK = "LSM hook"
    """`bpf_lsm_NAME`, looked up in the kernel's BTF at load."""
    ITERATOR = "iterator"
    """`bpf_iter_NAME`, looked up in the kernel's BTF at load."""
    STRUCT_OPS = "struct_ops"
    """A member of a struct_ops map's struct; the map says which."""
    BPF_PROGRAM = "BPF program"
    """A function of another BPF program; the application sets it before the load."""


BTF_PREFIX = {
    Target.BTF_FUNCTION: "",
    Target.BTF_TRACEPOINT: "btf_trace_",
    Target.LSM_HOOK: "bpf_lsm_",
    Target.ITERATOR: "bpf_iter_",
}
"""What precedes the target's name in the kernel's BTF, for targets that are looked up at load."""


class AttachTypeUse:
    """When the kernel looks at the expected attach type.

    libbpf names it at load even so, and Linux before 4.17 loads no program for one. Where the section's use is
    `OPTIONAL` or `CALL`, libbpf leaves it out there.
    """

    NONE = "none"
    LOAD = "load"
    """At load: it refuses one that it does not know."""
    ATTACH = "attach"
    """At attach: with one that it does not know a program loads, but cannot be attached as its section says."""
    CALL = "call"
    """At attach alone, as an argument of the call."""
    IGNORED = "ignored"
    """Never, where the program is attached as its section is meant."""
    OPTIONAL = "optional"
    """Only newer kernels look at all; older ones attach the program without it."""


_WATCHING = (
    *("BPF_TRACE_FENTRY", "BPF_TRACE_FEXIT", "BPF_TRACE_FSESSION", "BPF_TRACE_RAW_TP"),
    *("BPF_TRACE_FENTRY_MULTI", "BPF_TRACE_FEXIT_MULTI", "BPF_TRACE_FSESSION_MULTI"),
)
"""Attach types of TRACING programs that only watch."""


class ProgramSection:
    """What one section name means to libbpf."""

    __slots__ = ("attach_type", "attach_type_use", "module", "name", "program_type", "since", "target", "target_kind")

    def __init__(self, name: str, row: _Row, target: str) -> None:
        self.name = name
        """Without the leading `?`."""
        self.program_type = row[0]
        """Name in `enum bpf_prog_type`, without BPF_PROG_TYPE_."""
        self.attach_type = row[1]
        """Name in `enum bpf_attach_type`, or empty."""
        self.attach_type_use = row[2]
        self.target_kind = row[3]
        self.since = row[4]
        """The libbpf that was the first to know such sections; (0, 0) where all that we support do."""
        module, colon, rest = target.partition(":")
        has_module = bool(colon) and self.target_kind in BTF_PREFIX
        self.target = rest if has_module else target
        """Empty also where the application names it at run time: SEC("fentry")."""
        self.module = module if has_module else ""
        """The kernel module that SEC("fentry/module:function") names."""

    @property
    def sleepable(self) -> bool:
        return self.program_type == "SYSCALL" or self.name.partition("/")[0].endswith(".s")

    @property
    def xdp_frags(self) -> bool:
        return self.name.partition("/")[0] == "xdp.frags"

    @property
    def needs_kernel_btf(self) -> bool:
        """Whether libbpf and the kernel need the kernel's own BTF, so that no embedded one helps."""
        return self.target_kind in BTF_PREFIX or self.target_kind in (Target.STRUCT_OPS, Target.BTF_FUNCTIONS)

    @property
    def only_watches(self) -> bool:
        """Whether the program may be attached for a moment. To attach any other would change what the kernel does."""
        if self.program_type == "KPROBE":
            return self.target_kind != Target.BINARY
        return self.program_type in ("RAW_TRACEPOINT", "TRACEPOINT") or self.attach_type in _WATCHING


def parse_section(name: str) -> Optional[ProgramSection]:
    """Look up a section name, with or without a leading `?`. None if libbpf could not guess the program type."""
    bare = name[1:] if name.startswith("?") else name
    head, _, target = bare.partition("/")
    row = _BY_PATTERN.get(f"{head}+")
    if row is not None:
        return ProgramSection(bare, row, target)
    row = _BY_PATTERN.get(bare)
    return ProgramSection(bare, row, "") if row is not None else None


def libbpf_since(name: str) -> tuple[int, int]:
    """The libbpf that was the first to load programs of this section; (0, 0) if all do or nothing is known of it."""
    section = parse_section(name)
    if section is not None and section.since > (0, 0):
        return section.since
    if section is not None and f"{section.name}+" in _BY_PATTERN:
        return (1, 0)  # earlier ones wanted a target: SEC("fentry/tcp_close")
    return (0, 8) if name.startswith("?") else (0, 0)


def section_patterns() -> tuple[str, ...]:
    """Every section name of the table, `+` where something may follow."""
    return tuple(_BY_PATTERN)


if TYPE_CHECKING:
    _Row = tuple[str, str, str, str, tuple[int, int]]
    """Attributes of `ProgramSection`."""


def _rows(
    patterns: str,
    program_type: str,
    attach_type: str = "",
    use: str = AttachTypeUse.NONE,
    target: str = Target.NONE,
    *,
    since: tuple[int, int] = (0, 0),
) -> dict[str, _Row]:
    """A row for each pattern: an exact name or, with `+`, also anything after a slash."""
    return dict.fromkeys(patterns.split(), (program_type, attach_type, use, target, since))


def _with_sleepable(*tables: dict[str, _Row], since: tuple[int, int] = (0, 0)) -> dict[str, _Row]:
    """These rows and those of the sections with `.s`, whose programs may sleep."""
    rows = {pattern: row for table in tables for pattern, row in table.items()}
    return {**rows, **{f"{pattern[:-1]}.s+": (*row[:4], max(since, row[4])) for pattern, row in rows.items()}}


_LOAD, _ATTACH, _OPTIONAL = AttachTypeUse.LOAD, AttachTypeUse.ATTACH, AttachTypeUse.OPTIONAL
_BINARY, _FUNCTIONS = Target.BINARY, Target.BTF_FUNCTIONS
_TABLE: tuple[dict[str, _Row], ...] = (
    # kprobe and uprobe programs: all of one type, told apart when they are attached
    _rows("kprobe+ kretprobe+", "KPROBE", target=Target.FUNCTION),
    _rows("kprobe.multi+ kretprobe.multi+", "KPROBE", "BPF_TRACE_KPROBE_MULTI", _ATTACH, since=(0, 8)),
    _rows("kprobe.session+", "KPROBE", "BPF_TRACE_KPROBE_SESSION", _ATTACH, since=(1, 5)),
    _rows("ksyscall+ kretsyscall+", "KPROBE", target=Target.SYSCALL, since=(1, 0)),
    _with_sleepable(
        _rows("uprobe+ uretprobe+", "KPROBE", target=_BINARY),
        _rows("uprobe.multi+ uretprobe.multi+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", _ATTACH, _BINARY, since=(1, 3)),
        _rows("uprobe.session+", "KPROBE", "BPF_TRACE_UPROBE_SESSION", _ATTACH, _BINARY, since=(1, 6)),
    ),
    _with_sleepable(_rows("usdt+", "KPROBE", target=_BINARY, since=(0, 8)), since=(1, 3)),
    # programs whose arguments the kernel's BTF describes
    _with_sleepable(_rows("tp_btf+", "TRACING", "BPF_TRACE_RAW_TP", _LOAD, Target.BTF_TRACEPOINT), since=(1, 8)),
    _rows("lsm_cgroup+", "LSM", "BPF_LSM_CGROUP", _LOAD, Target.LSM_HOOK, since=(1, 0)),
    _rows("freplace+", "EXT", target=Target.BPF_PROGRAM),
    _with_sleepable(
        _rows("fentry+", "TRACING", "BPF_TRACE_FENTRY", _LOAD, Target.BTF_FUNCTION),
        _rows("fexit+", "TRACING", "BPF_TRACE_FEXIT", _LOAD, Target.BTF_FUNCTION),
        _rows("fmod_ret+", "TRACING", "BPF_MODIFY_RETURN", _LOAD, Target.BTF_FUNCTION),
        _rows("fsession+", "TRACING", "BPF_TRACE_FSESSION", _LOAD, Target.BTF_FUNCTION, since=(1, 7)),
        *(
            _rows(f"{name}.multi+", "TRACING", f"BPF_TRACE_{name.upper()}_MULTI", _LOAD, _FUNCTIONS, since=(1, 8))
            for name in ("fentry", "fexit", "fsession")
        ),
        _rows("lsm+", "LSM", "BPF_LSM_MAC", _LOAD, Target.LSM_HOOK),
        _rows("iter+", "TRACING", "BPF_TRACE_ITER", _LOAD, Target.ITERATOR),
    ),
    _with_sleepable(_rows("struct_ops+", "STRUCT_OPS", target=Target.STRUCT_OPS), since=(1, 2)),
    # tracepoints, and what has no target
    _with_sleepable(
        _rows("raw_tracepoint+ raw_tp+", "RAW_TRACEPOINT", target=Target.RAW_TRACEPOINT),
        _rows("tracepoint+ tp+", "TRACEPOINT"),
        since=(1, 8),
    ),
    _rows("raw_tracepoint.w+ raw_tp.w+", "RAW_TRACEPOINT_WRITABLE", target=Target.RAW_TRACEPOINT),
    _rows("perf_event", "PERF_EVENT"),
    _rows("syscall", "SYSCALL"),
    _rows("lirc_mode2", "LIRC_MODE2", "BPF_LIRC_MODE2", _OPTIONAL),
    # cgroups
    _rows("cgroup_skb/ingress", "CGROUP_SKB", "BPF_CGROUP_INET_INGRESS", _OPTIONAL),
    _rows("cgroup_skb/egress", "CGROUP_SKB", "BPF_CGROUP_INET_EGRESS", _OPTIONAL),
    _rows("cgroup/skb", "CGROUP_SKB"),
    _rows("cgroup/sock", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_CREATE", _OPTIONAL),
    _rows("cgroup/sock_create", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_CREATE", _LOAD),
    _rows("cgroup/sock_release", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_RELEASE", _LOAD),
    _rows("cgroup/post_bind4", "CGROUP_SOCK", "BPF_CGROUP_INET4_POST_BIND", _LOAD),
    _rows("cgroup/post_bind6", "CGROUP_SOCK", "BPF_CGROUP_INET6_POST_BIND", _LOAD),
    _rows("cgroup/sysctl", "CGROUP_SYSCTL", "BPF_CGROUP_SYSCTL", _ATTACH),
    _rows("cgroup/getsockopt", "CGROUP_SOCKOPT", "BPF_CGROUP_GETSOCKOPT", _LOAD),
    _rows("cgroup/setsockopt", "CGROUP_SOCKOPT", "BPF_CGROUP_SETSOCKOPT", _LOAD),
    _rows("cgroup/dev", "CGROUP_DEVICE", "BPF_CGROUP_DEVICE", _OPTIONAL),
    _rows("sockops", "SOCK_OPS", "BPF_CGROUP_SOCK_OPS", _OPTIONAL),
    *(
        _rows(f"cgroup/{call}{family}", "CGROUP_SOCK_ADDR", f"BPF_CGROUP_{protocol}{family}_{call.upper()}", _LOAD)
        for protocol, calls in (
            ("INET", ("bind", "connect", "getpeername", "getsockname")),
            ("UDP", ("sendmsg", "recvmsg")),
        )
        for call in calls
        for family in "46"
    ),
    *(
        _rows(f"cgroup/{call}_unix", "CGROUP_SOCK_ADDR", f"BPF_CGROUP_UNIX_{call.upper()}", _LOAD, since=(1, 3))
        for call in ("connect", "sendmsg", "recvmsg", "getpeername", "getsockname")
    ),
    # the network
    _rows("socket", "SOCKET_FILTER"),
    # the attach types came later than the program type: kernels that do not know them select, and migrate nothing
    _rows("sk_reuseport/migrate", "SK_REUSEPORT", "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE", _OPTIONAL),
    _rows("sk_reuseport", "SK_REUSEPORT", "BPF_SK_REUSEPORT_SELECT", _OPTIONAL),
    _rows("tc/ingress", "SCHED_CLS", "BPF_TCX_INGRESS", AttachTypeUse.IGNORED, since=(1, 3)),
    _rows("tc/egress", "SCHED_CLS", "BPF_TCX_EGRESS", AttachTypeUse.IGNORED, since=(1, 3)),
    _rows("tcx/ingress", "SCHED_CLS", "BPF_TCX_INGRESS", _ATTACH, since=(1, 3)),
    _rows("tcx/egress", "SCHED_CLS", "BPF_TCX_EGRESS", _ATTACH, since=(1, 3)),
    _rows("netkit/primary", "SCHED_CLS", "BPF_NETKIT_PRIMARY", _ATTACH, since=(1, 3)),
    _rows("netkit/peer", "SCHED_CLS", "BPF_NETKIT_PEER", _ATTACH, since=(1, 3)),
    _rows("tc classifier", "SCHED_CLS"),
    _rows("action", "SCHED_ACT"),
    _rows("xdp xdp.frags", "XDP", "BPF_XDP", _OPTIONAL),
    _rows("xdp/devmap xdp.frags/devmap", "XDP", "BPF_XDP_DEVMAP", _ATTACH),
    _rows("xdp/cpumap xdp.frags/cpumap", "XDP", "BPF_XDP_CPUMAP", _ATTACH),
    _rows("lwt_in", "LWT_IN"),
    _rows("lwt_out", "LWT_OUT"),
    _rows("lwt_xmit", "LWT_XMIT"),
    _rows("lwt_seg6local", "LWT_SEG6LOCAL"),
    _rows("sk_skb/stream_parser", "SK_SKB", "BPF_SK_SKB_STREAM_PARSER", _OPTIONAL),
    _rows("sk_skb/stream_verdict", "SK_SKB", "BPF_SK_SKB_STREAM_VERDICT", _OPTIONAL),
    _rows("sk_skb/verdict", "SK_SKB", "BPF_SK_SKB_VERDICT", AttachTypeUse.CALL, since=(1, 4)),
    _rows("sk_skb", "SK_SKB"),
    _rows("sk_msg", "SK_MSG", "BPF_SK_MSG_VERDICT", _OPTIONAL),
    _rows("sk_lookup", "SK_LOOKUP", "BPF_SK_LOOKUP", _LOAD),
    _rows("flow_dissector", "FLOW_DISSECTOR", "BPF_FLOW_DISSECTOR", _OPTIONAL),
    _rows("netfilter", "NETFILTER", "BPF_NETFILTER", _LOAD, since=(1, 3)),
)
_BY_PATTERN = {pattern: row for rows in _TABLE for pattern, row in rows.items()}

WITHOUT_ATTACH_TYPE = {"cgroup/sock_create": "cgroup/sock", "tc/ingress": "tc", "tc/egress": "tc"}
"""Sections whose programs are attached just the same without an attach type, and their names then."""

ARENA_VARIABLES = (1, 4)
"""The first libbpf that knows global variables in an arena."""

ATTACH_TYPES = {
    "BPF_CGROUP_INET_INGRESS": 0,
    "BPF_CGROUP_INET_EGRESS": 1,
    "BPF_CGROUP_INET_SOCK_CREATE": 2,
    "BPF_CGROUP_SOCK_OPS": 3,
    "BPF_SK_SKB_STREAM_PARSER": 4,
    "BPF_SK_SKB_STREAM_VERDICT": 5,
    "BPF_CGROUP_DEVICE": 6,
    "BPF_SK_MSG_VERDICT": 7,
    "BPF_CGROUP_INET4_BIND": 8,
    "BPF_CGROUP_INET6_BIND": 9,
    "BPF_CGROUP_INET4_CONNECT": 10,
    "BPF_CGROUP_INET6_CONNECT": 11,
    "BPF_CGROUP_INET4_POST_BIND": 12,
    "BPF_CGROUP_INET6_POST_BIND": 13,
    "BPF_CGROUP_UDP4_SENDMSG": 14,
    "BPF_CGROUP_UDP6_SENDMSG": 15,
    "BPF_CGROUP_SYSCTL": 18,
    "BPF_CGROUP_UDP4_RECVMSG": 19,
    "BPF_CGROUP_UDP6_RECVMSG": 20,
    "BPF_CGROUP_GETSOCKOPT": 21,
    "BPF_CGROUP_SETSOCKOPT": 22,
    "BPF_XDP": 37,
    "BPF_SK_SKB_VERDICT": 38,
    "BPF_PERF_EVENT": 41,
    "BPF_TCX_INGRESS": 46,
    "BPF_TCX_EGRESS": 47,
    "BPF_NETKIT_PRIMARY": 54,
    "BPF_NETKIT_PEER": 55,
}
"""Numbers in `enum bpf_attach_type`, of those that the runtime passes to the kernel itself."""
