"""Network interfaces: which XDP programs and tc filters they have, whoever attached them. Input: an interface's name
or index. Output: ids of programs.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref

from ..arguments import c_string, choice
from ..errors import AttachError, InvalidValueError, failed, permission_denied
from ..libbpf import library as _library
from ..libbpf.library import TcHook, TcOpts, XdpQueryOpts, opts
from ..libbpf.messages import Capture
from ..types import S32, U16, U32, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

XDP_MODES = {"auto": 0, "skb": 1 << 1, "driver": 1 << 2, "hardware": 1 << 3}
"""`XDP_FLAGS_*` of linux/if_link.h."""
XDP_ATTACHED = {1: "driver", 2: "skb", 3: "hardware"}
"""The modes of `XDP_ATTACHED_*`, of linux/if_link.h, that have one program."""
TC_POINTS = {"ingress": 1 << 0, "egress": 1 << 1}
"""`enum bpf_tc_attach_point`."""
NOTHING_THERE = (errno.ENOENT, errno.EINVAL)
"""What the kernel says where there is no clsact qdisc (EINVAL if there once was one), or no such filter."""


def find_interface(interface: Union[str, int], refused: str) -> tuple[int, str]:
    """An interface's index, and its name for messages. If there is none, the error's message begins with `refused`."""
    import socket

    if hasattr(interface, "__index__") and not isinstance(interface, bool):
        index = named("interface", S32.put, interface)
        if index < 1:
            raise InvalidValueError(f"{refused} interface {index}: indexes begin with 1")
        return index, f"interface {index}"
    name = c_string("interface", interface, "a name or an index")
    try:
        return socket.if_nametoindex(os.fsdecode(name)), f"interface {os.fsdecode(name)}"
    except OSError as error:
        raise AttachError(f"{refused} interface {interface}: there is none of that name", errno=errno.ENODEV) from error


def xdp_query(interface: Union[str, int]) -> dict[str, int]:
    """The ids of an interface's XDP programs by their mode: `skb`, `driver` or `hardware`; empty if it has none.

    They are those of this process's network namespace, whoever attached them. libbpf 0.7 or later.
    Raises `AttachError` if there is no such interface.
    """
    refused = "XDP programs can't be looked up on"
    index, where = find_interface(interface, refused)
    found = opts(XdpQueryOpts)
    _call(f"{refused} {where}", "bpf_xdp_query", index, 0, byref(found))
    if not found.attach_mode:
        _check_there(index, f"{refused} {where}")
    if found.attach_mode in XDP_ATTACHED:
        return {XDP_ATTACHED[found.attach_mode]: found.prog_id}
    by_mode = {"driver": found.drv_prog_id, "skb": found.skb_prog_id, "hardware": found.hw_prog_id}
    return {mode: number for mode, number in by_mode.items() if number}


def tc_query(
    interface: Union[str, int], direction: str = "ingress", *, handle: int = 1, priority: int = 1
) -> Optional[int]:
    """The id of the program of a tc filter, whoever attached it; None if no BPF filter has these numbers.

    The numbers are those of `attach_tc(replace=True)` unless you say otherwise. Raises `AttachError` if there is no
    such interface.
    """
    refused = "tc filters can't be looked up on"
    if not named("handle", U32.put, handle) or not named("priority", U16.put, priority):
        raise InvalidValueError(
            "handle and priority must be those of the filter, not 0: see link.handle, link.priority"
        )
    hook, where = _hook(interface, choice("direction", direction, TC_POINTS), refused)
    found = opts(TcOpts, handle=handle, priority=priority)
    is_there = _call(f"{refused} {where}", "bpf_tc_query", byref(hook), byref(found), absent=NOTHING_THERE)
    return int(found.prog_id) if is_there else None


def tc_hook_destroy(interface: Union[str, int], direction: Optional[str] = None) -> bool:
    """Remove all tc filters at `ingress` or `egress`, whoever attached them; without a direction, the clsact qdisc too.

    `attach_tc()` makes the qdisc, and `link.detach()` leaves it, since others may use it. Returns whether there was a
    qdisc; one of another kind stays. Raises `AttachError` if there is no such interface.
    """
    refused = "tc filters can't be removed from"
    points = choice("direction", direction, TC_POINTS) if direction else sum(TC_POINTS.values())
    hook, where = _hook(interface, points, refused)
    return _call(f"{refused} {where}", "bpf_tc_hook_destroy", byref(hook), absent=NOTHING_THERE)


def _check_there(index: int, refused: str) -> None:
    """Raise `AttachError` if there is no such interface: some versions of libbpf find no XDP on it, and no error."""
    import socket

    try:
        socket.if_indextoname(index)
    except OSError as error:
        raise failed(AttachError, refused, errno.ENODEV) from error


def _hook(interface: Union[str, int], point: int, refused: str) -> tuple[Any, str]:
    index, where = find_interface(interface, refused)
    return opts(TcHook, ifindex=index, attach_point=point), where


def _call(refused: str, function: str, *arguments: Any, absent: tuple[int, ...] = ()) -> bool:
    """Call a function of libbpf's. Returns False if the error number says that there is nothing there."""
    libbpf = _library.current()
    with Capture(libbpf) as said:
        if getattr(libbpf, function)(*arguments) >= 0:
            return True
        code = ctypes.get_errno()
        if code in absent:
            return False
        if code == errno.EPERM:
            raise permission_denied(refused, errno=code, also=("CAP_NET_ADMIN",))
        raise failed(AttachError, refused, code, hint="; ".join(said.lines))
