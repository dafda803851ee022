"""What XDP programs and tc filters an interface has, as bpftool tells it, and their removal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hatch_bpf.runtime import errors, tc_hook_destroy, tc_query, xdp_query
from hatch_bpf.runtime.libbpf import library
from tests.common import needs
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    skeleton = load_skeleton("attachments", tmp_path_factory.mktemp("interfaces")).Attachments
    needs.root_bpf()
    with skeleton.open() as bpf, bpf.load() as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def loopback() -> Iterator[str]:
    needs.root_bpf()
    with own_loopback() as name:
        yield name


def shown(kind: str) -> list[dict[str, Any]]:
    """What bpftool shows of a kind, `xdp` or `tc`, in this network namespace."""
    (everything,) = json.loads(subprocess.check_output([needs.tool("bpftool"), "-j", "net", "show"]))
    found: list[dict[str, Any]] = everything[kind]
    return found


def qdiscs() -> str:
    return subprocess.check_output([needs.tool("tc"), "qdisc", "show", "dev", "lo"], text=True)


def test_xdp_programs_are_those_of_bpftool(skel: Any) -> None:
    assert xdp_query("lo") == {}
    with skel.programs.on_xdp.attach_xdp("lo", mode="skb"):
        number = skel.programs.on_xdp.info().id
        assert xdp_query("lo") == xdp_query(1) == {"skb": number}
        (told,) = shown("xdp")
        assert (told["devname"], told["mode"], told["id"]) == ("lo", "generic", number)
    assert xdp_query("lo") == {}


def test_a_program_in_the_driver(skel: Any) -> None:
    if subprocess.run(["ip", "link", "add", "one", "type", "veth", "peer", "other"], check=False).returncode:
        needs.missing("this kernel has no veth interfaces")
    with skel.programs.on_xdp.attach_xdp("one", mode="driver"):
        assert xdp_query("one") == {"driver": skel.programs.on_xdp.info().id}
        assert xdp_query("other") == {}


def test_programs_of_several_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a network card that runs one program itself: the kernel then names no single program."""
    several = 4  # XDP_ATTACHED_MULTI

    def answer(_index: int, _flags: int, found: Any) -> int:
        found._obj.attach_mode, found._obj.skb_prog_id, found._obj.hw_prog_id = several, 7, 8
        return 0

    libbpf = library.current()
    libbpf.bpf_xdp_query  # noqa: B018 - looked up first, so that there is something to put back
    monkeypatch.setattr(libbpf, "bpf_xdp_query", answer)
    assert xdp_query("lo") == {"skb": 7, "hardware": 8}


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_tc_filters_are_those_of_bpftool(skel: Any, direction: str) -> None:
    assert tc_query("lo", direction) is None, "there is no qdisc yet"
    link = skel.programs.on_tc.attach_tc("lo", direction, replace=True)
    with skel.programs.on_tc.attach_tc("lo", direction, handle=7, priority=3) as other:
        number = skel.programs.on_tc.info().id
        assert tc_query("lo", direction) == number
        assert tc_query("lo", direction, handle=other.handle, priority=other.priority) == number
        assert [told["id"] for told in shown("tc")] == [number, number]
        assert {told["kind"] for told in shown("tc")} == {f"clsact/{direction}"}
        assert tc_query("lo", direction, handle=7, priority=4) is None
        assert tc_query("lo", direction, handle=8, priority=3) is None
        assert tc_query("lo", "egress" if direction == "ingress" else "ingress") is None
    assert tc_query("lo", direction, handle=7, priority=3) is None
    link.detach()
    assert tc_query("lo", direction) is None, "the qdisc is left"


def test_the_filters_of_one_direction_are_removed(skel: Any) -> None:
    assert not tc_hook_destroy("lo", "egress")
    for direction in ("ingress", "egress"):
        skel.programs.on_tc.attach_tc("lo", direction, replace=True)
    skel.programs.on_tc.attach_tc("lo", "egress", handle=7, priority=3)
    assert tc_hook_destroy("lo", "egress")
    (left,) = shown("tc")
    assert left["kind"] == "clsact/ingress"
    assert "clsact" in qdiscs()


def test_the_qdisc_is_removed_with_all_filters(skel: Any) -> None:
    assert not tc_hook_destroy("lo")
    link = skel.programs.on_tc.attach_tc("lo", "ingress")
    skel.programs.on_tc.attach_tc("lo", "egress")
    assert "clsact" in qdiscs()
    assert tc_hook_destroy("lo")
    assert shown("tc") == []
    assert "clsact" not in qdiscs()
    assert not tc_hook_destroy("lo")
    link.detach()
    assert not link.attached


def test_a_qdisc_of_another_kind_stays() -> None:
    needs.root_bpf()
    subprocess.run([needs.tool("tc"), "qdisc", "add", "dev", "lo", "ingress"], check=True)
    assert not tc_hook_destroy("lo")
    assert "ingress" in qdiscs()


def test_what_is_not_there_and_what_cannot_be() -> None:
    for call, what in (
        (xdp_query, "XDP programs can't be looked up on"),
        (tc_query, "tc filters can't be looked up on"),
        (tc_hook_destroy, "tc filters can't be removed from"),
    ):
        with pytest.raises(errors.AttachError, match=f"^{what} interface nosuchif0: there is none of that name"):
            call("nosuchif0")
        with pytest.raises(errors.AttachError, match=f"^{what} interface 99: ENODEV"):
            call(99)
        with pytest.raises(errors.InvalidValueError, match="interface"):
            call(1 << 40)
    with pytest.raises(errors.InvalidValueError, match="direction must be one of ingress, egress"):
        tc_query("lo", "sideways")
    with pytest.raises(errors.InvalidValueError, match="priority"):
        tc_query("lo", priority=1 << 16)
    with pytest.raises(errors.InvalidValueError, match="handle and priority must be those of the filter"):
        tc_query("lo", handle=0)
