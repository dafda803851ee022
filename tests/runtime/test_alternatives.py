"""Alternatives and optional programs in the running kernel: who wins, why others do not, and that nothing is left."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.runtime import alternatives, errors, sections
from hatch_bpf.runtime.handle import ObjectHandle
from hatch_bpf.runtime.libbpf.library import Libbpf
from tests.common import needs, tracefs
from tests.common.projects import REPOSITORY
from tests.common.skeleton_package import BPF, Package, import_skeleton, load_skeleton, make_package, skeleton_text

GROUPS = {
    "events": ("ring", "perf"),
    "shape": ("on_tcx", "on_tc"),
    "telling": ("by_ring", "by_perf"),
    "watch": ("watch_fentry", "watch_kprobe", "watch_raw"),
}
OPTIONAL = ("extra", "extra_with_never", "extra_with_types", "more_with_types")
DECLARED = Alternatives(GROUPS, OPTIONAL)
NO_SUCH_FLAG = 1 << 30
HIDE_BTF = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")


@pytest.fixture(scope="module")
def skel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tracefs.mounted()
    folder = tmp_path_factory.mktemp("alternatives")
    return load_skeleton("alternatives", folder, events={"events": "event"}, alternatives=DECLARED).Alternatives


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same without groups or optional programs."""
    tracefs.mounted()
    return load_skeleton("alternatives", tmp_path_factory.mktemp("plain")).Alternatives


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    tracefs.mounted()
    root = tmp_path_factory.mktemp("package")
    return make_package(BPF / "alternatives.bpf.c", root, alternatives=DECLARED)


@contextmanager
def opened(skel: Any) -> Iterator[Any]:
    with skel.open() as bpf:
        bpf.rodata.wanted_pid = os.getpid()
        yield bpf


def choice(loaded: Any, name: str) -> Any:
    (found,) = (found for found in loaded.choices if found.name == name)
    return found


def why(loaded: Any, name: str) -> dict[str, str]:
    return {refusal.name: refusal.why for refusal in choice(loaded, name).refused}


def descriptors() -> list[str]:
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the listing's own
    return sorted(found)


def works_alone(plain: Any, name: str) -> bool:
    """Whether a program can be loaded and attached with nothing else of its object, by the means of any application."""
    with plain.open() as bpf:
        for program in bpf.programs:
            program.autoload = program.name == name
        bpf.maps.never.autocreate = False
        try:
            with bpf.load() as loaded:
                loaded.attach()
        except errors.BpfError:
            return False
        return True


# --- who wins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["telling", "watch"])
def test_the_first_that_works_by_itself_wins(skel: Any, plain: Any, group: str) -> None:
    wanted = next(name for name in GROUPS[group] if works_alone(plain, name))
    before = GROUPS[group][: GROUPS[group].index(wanted)]
    with opened(skel) as bpf, bpf.load() as loaded:
        found = choice(loaded, group)
        assert (found.kind, found.chosen) == ("programs", wanted)
        assert tuple(refusal.name for refusal in found.refused) == before
        assert all(refusal.errno and refusal.why for refusal in found.refused)
        assert getattr(loaded.programs, group) is loaded.programs[wanted]
        assert [name for name in GROUPS[group] if loaded.programs[name].loaded] == [wanted]


def test_what_loads_and_cannot_be_attached_does_not_win(skel: Any) -> None:
    with opened(skel) as bpf:
        bpf.programs.watch_fentry.autoload = False
        with bpf.load() as loaded:
            assert choice(loaded, "watch").chosen == "watch_raw"
            assert "it loads, but can't be attached: ENOENT" in why(loaded, "watch")["watch_kprobe"]
            assert why(loaded, "watch")["watch_fentry"] == "it is turned off (autoload is False)"


def test_what_the_application_attaches_itself_is_only_loaded(skel: Any) -> None:
    with opened(skel) as bpf:
        bpf.programs.watch_fentry.autoload = False
        bpf.programs.watch_kprobe.autoattach = False
        with bpf.load() as loaded:
            assert choice(loaded, "watch").chosen == "watch_kprobe"


def tell(loaded: Any) -> list[tuple[int, int]]:
    """What comes out of the group of buffers when this process does what the programs wait for."""
    loaded.maps.events.open()
    with loaded.programs.telling.attach():
        os.getppid()
        return [(event.pid, event.by) for event in loaded.maps.events.poll(10)]


def test_a_ring_buffer_where_there_is_one(skel: Any) -> None:
    with opened(skel) as bpf, bpf.load() as loaded:
        assert (choice(loaded, "telling").chosen, choice(loaded, "events").chosen) == ("by_ring", "ring")
        assert loaded.maps.events is loaded.maps.ring
        assert tell(loaded) == [(os.getpid(), 1)]


def test_else_a_perf_buffer(skel: Any) -> None:
    with opened(skel) as bpf:
        bpf.maps.ring.flags = NO_SUCH_FLAG
        with bpf.load() as loaded:
            assert (choice(loaded, "telling").chosen, choice(loaded, "events").chosen) == ("by_perf", "perf")
            assert "map ring is of type RINGBUF" in why(loaded, "events")["ring"]
            assert why(loaded, "telling")["by_ring"].startswith("EINVAL")
            assert loaded.maps.events is loaded.maps.perf
            with pytest.raises(errors.ClosedError, match="map ring was not created"):
                loaded.maps.ring.poll(0)
            assert tell(loaded) == [(os.getpid(), 2)]


def test_the_buffer_follows_the_program(skel: Any, tmp_path: Path) -> None:
    """The ring buffer can be created, but the program that uses it is refused, for a global that the trial knows of."""
    with opened(skel) as bpf:
        bpf.rodata.break_ring = 1
        bpf.maps.ring.pin_path = str(tmp_path / "ring")  # no BPF file system: to pin it would be another error
        with bpf.load() as loaded:
            assert choice(loaded, "telling").chosen == "by_perf"
            assert "invalid mem access" in why(loaded, "telling")["by_ring"]
            assert choice(loaded, "events").chosen == "perf"
            assert why(loaded, "events") == {"ring": "no program that is loaded uses it"}
            assert tell(loaded) == [(os.getpid(), 2)]
    assert not list(tmp_path.iterdir())


def test_a_map_that_was_put_in_place_is_there_in_the_trial_too(skel: Any, plain: Any) -> None:
    with plain.open() as other:
        for program in other.programs:
            program.autoload = False
        other.maps.never.autocreate = False
        with other.load() as owner, opened(skel) as bpf:
            fd = os.dup(owner.maps.ring.fd)
            bpf.maps.ring.flags = NO_SUCH_FLAG  # which matters no more
            bpf.maps.ring.reuse(fd)
            os.close(fd)
            with bpf.load() as loaded:
                assert choice(loaded, "telling").chosen == "by_ring"
                assert tell(loaded) == [(os.getpid(), 1)]


def test_one_program_may_serve_both_buffers(tmp_path: Path) -> None:
    """It asks BTF which there is; what it refers to and never reaches need not be there."""
    tracefs.mounted()
    declared = Alternatives({"flow_events": ("flow_ring", "flow_perf")})
    either = load_skeleton("either", tmp_path, events={"flow_events": "flow_event"}, alternatives=declared)
    without = tmp_path / "without-ring-buffers.btf"
    names = (b"\0BPF_MAP_TYPE_RINGBUF\0", b"\0BPF_MAP_TYPE_NOTHERE\0")
    without.write_bytes(needs.host_btf().read_bytes().replace(*names))
    for btf, flags, chosen in ((None, 0, "flow_ring"), (str(without), NO_SUCH_FLAG, "flow_perf")):
        with either.Either.open(btf=btf) as bpf:
            bpf.programs.flat_ring.autoload = bpf.programs.flat_perf.autoload = False
            bpf.maps.flow_ring.flags = flags
            with bpf.load() as loaded:
                assert choice(loaded, "flow_events").chosen == chosen
                assert loaded.programs.flat_guarded.loaded
                loaded.maps.flow_events.open()
                assert loaded.maps.flow_events.poll(0) == []


def test_where_none_can_be_used_every_reason_is_told(skel: Any) -> None:
    with opened(skel) as bpf:
        bpf.maps.ring.flags = bpf.maps.perf.flags = NO_SUCH_FLAG
        with pytest.raises(errors.LoadError) as caught:
            bpf.load()
    first, ring, perf = str(caught.value).splitlines()
    assert first.endswith("none of the maps of events can be used on this machine:")
    assert ring.startswith("  ring: EINVAL: ")
    assert perf.startswith("  perf: EINVAL: ")
    assert caught.value.errno


def test_a_group_that_is_turned_off_is_nobodys(skel: Any) -> None:
    with opened(skel) as bpf:
        for name in GROUPS["watch"]:
            bpf.programs[name].autoload = False
        with bpf.load() as loaded:
            assert choice(loaded, "watch").chosen is None
            assert not loaded.programs.watch.loaded


def test_links_of_interfaces_are_looked_for(skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By asking for one on an interface that isn't there: only a kernel that knows such links looks for it."""
    parse, as_tcx = sections.parse_section, sections.parse_section("tcx/ingress")
    monkeypatch.setattr(alternatives, "parse_section", lambda name: as_tcx if name[-2:] == "tc" else parse(name))
    for attach_type, wanted in ((9999, "on_tcx"), (46, "on_tc")):
        monkeypatch.setitem(sections.ATTACH_TYPES, "BPF_TCX_INGRESS", attach_type)
        with opened(skel) as bpf:
            bpf.programs.on_tcx.autoload = False
            if attach_type == 46:
                with bpf.load() as loaded:
                    assert choice(loaded, "shape").chosen == wanted
            else:
                with pytest.raises(errors.LoadError, match="on_tc: it loads, but this kernel has no such links"):
                    bpf.load()


# --- optional programs ----------------------------------------------------------------------------------------------


def test_optional_programs_are_left_out_with_what_only_they_use(skel: Any) -> None:
    with opened(skel) as bpf, bpf.load() as loaded:
        assert choice(loaded, "extra").chosen == "extra"
        assert loaded.maps.only_extra[0] == 0
        assert choice(loaded, "extra_with_never").chosen is None
        assert "map never is of type ARRAY" in why(loaded, "extra_with_never")["extra_with_never"]
        assert not loaded.programs.extra_with_never.loaded


def test_an_optional_program_that_was_turned_off_is_not_tried(skel: Any) -> None:
    with opened(skel) as bpf:
        bpf.programs.extra.autoload = False
        with bpf.load() as loaded:
            assert "extra" not in {found.name for found in loaded.choices}
            with pytest.raises(errors.BpfError):
                loaded.maps.only_extra[0]


LOAD = """\
from {module} import Alternatives
with Alternatives.open() as bpf, bpf.load() as loaded:
    print(loaded.explain())
"""


def test_types_that_are_missing_leave_out_who_needs_them(package: Package) -> None:
    code = LOAD.format(module=package.module)
    assert "optional program extra_with_types: loaded" in package.run(code).stdout
    told = package.run(code, prefix=HIDE_BTF).stdout.splitlines()
    at = told.index("optional program extra_with_types: left out")
    assert "/sys/kernel/btf/vmlinux" in told[at + 1]


@pytest.mark.parametrize("chosen", ["jumping", "nesting", "ringing"])
def test_maps_that_libbpf_fills_are_whole_in_trials(tmp_path: Path, chosen: str) -> None:
    tracefs.mounted()
    optional = tuple(name for name in ("jumping", "nesting", "ringing") if name != chosen)
    tails = load_skeleton("tails", tmp_path, alternatives=Alternatives({"either": ("never", chosen)}, optional))
    with tails.Tails.run() as loaded:
        assert choice(loaded, "either").chosen == chosen
        assert "invalid mem access" in why(loaded, "either")["never"]
        assert [choice(loaded, name).chosen for name in optional] == list(optional)
        os.getppid()
        assert loaded.bss.calls, "the array names the program"
        assert loaded.maps.ring.poll(5), "the map of maps holds the ring"


def test_a_map_of_maps_goes_with_what_only_it_holds(tmp_path: Path) -> None:
    tracefs.mounted()
    tails = load_skeleton("tails", tmp_path, alternatives=Alternatives({}, ("ringing",)))
    with tails.Tails.open() as bpf:
        bpf.programs.ringing.autoload = bpf.programs.never.autoload = False
        with bpf.load() as loaded:
            for item in (loaded.maps.rings, loaded.maps.ring):
                with pytest.raises(errors.ClosedError, match="was not created"):
                    item.fd  # noqa: B018
            assert loaded.maps.inner.fd >= 0


def test_an_array_of_programs_that_nobody_uses_any_more_is_left_out(tmp_path: Path) -> None:
    tracefs.mounted()
    tails = load_skeleton("tails", tmp_path, alternatives=Alternatives({}, ("jumping", "never", "tail")))
    with tails.Tails.open() as bpf:
        bpf.programs.jumping.autoload = bpf.programs.tail.autoload = False
        with bpf.load() as loaded, pytest.raises(errors.ClosedError, match="jumps was not created"):
            assert loaded.maps.jumps.fd


def test_a_kernel_that_is_not_covered_is_told_as_such(tmp_path: Path) -> None:
    """Where a group hangs on nothing else, this is the error that it always is."""
    tracefs.mounted()
    declared = Alternatives({"types": ("extra_with_types", "more_with_types")}, ("extra_with_never",))
    code = """
        from demo.alternatives_skel import Alternatives, _bpf
        try:
            Alternatives.open().load()
        except _bpf.KernelNotCoveredError as error:
            print("not covered:", error)
    """
    package = make_package(BPF / "alternatives.bpf.c", tmp_path, alternatives=declared)
    assert package.run(code, prefix=HIDE_BTF).stdout.startswith("not covered:")


def test_who_may_load_nothing_is_told_that(package: Package) -> None:
    code = """
        import os
        from demo.alternatives_skel import Alternatives, _bpf
        with Alternatives.open() as bpf:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            try:
                bpf.load()
            except _bpf.PermissionDeniedError as error:
                print(error)
    """
    assert "this process lacks CAP_BPF" in package.run(code).stdout


def test_a_group_that_fails_for_want_of_a_capability_says_so(package: Package) -> None:
    code = f"""
        import sys
        sys.path.append({str(REPOSITORY)!r})
        from tests.system.privileges_exercises import keep
        from demo.alternatives_skel import Alternatives, _bpf
        with Alternatives.open() as bpf:
            keep(["CAP_BPF", "CAP_NET_ADMIN"])
            try:
                bpf.load()
            except _bpf.LoadError as error:
                print(error)
    """
    told = package.run(code).stdout
    assert "this process lacks CAP_PERFMON\n" in told
    assert "this process lacks CAP_PERFMON: run it as root, or give it CAP_BPF and CAP_PERFMON" in told


# --- cost, leftovers, words -----------------------------------------------------------------------------------------


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often an object is opened."""
    count, real = [0], ObjectHandle.open

    def counted(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(ObjectHandle, "open", counted)
    return count


def test_nothing_is_tried_where_nothing_is_in_question(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = counting(monkeypatch)
    with plain.open() as bpf:
        for program in bpf.programs:
            program.autoload = program.name == "watch_raw"
        bpf.maps.never.autocreate = False
        with bpf.load() as loaded:
            assert loaded.choices == ()
    assert count == [1]


def test_nothing_is_left_behind(skel: Any) -> None:
    def use(setting: Callable[[Any], None]) -> None:
        with opened(skel) as bpf:
            setting(bpf)
            try:
                with bpf.load() as loaded:
                    tell(loaded)
            except errors.LoadError:
                pass

    def nothing(bpf: Any) -> None:
        pass

    def no_ring(bpf: Any) -> None:
        bpf.maps.ring.flags = NO_SUCH_FLAG

    def no_buffer(bpf: Any) -> None:
        bpf.maps.ring.flags = bpf.maps.perf.flags = NO_SUCH_FLAG

    use(nothing)
    before = descriptors()
    for setting in (nothing, no_ring, no_buffer) * 3:
        use(setting)
    assert descriptors() == before


def test_without_a_switch_for_maps_something_harmless_is_created(skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """libbpf 0.6 and 0.7 create every map."""
    real = Libbpf.has
    monkeypatch.setattr(Libbpf, "has", lambda self, name: "autocreate" not in name and real(self, name))
    with opened(skel) as bpf:
        bpf.maps.ring.flags = NO_SUCH_FLAG
        with bpf.load() as loaded:
            assert choice(loaded, "telling").chosen == "by_perf"
            assert choice(loaded, "events").chosen == "perf"
            assert choice(loaded, "extra_with_never").chosen is None
            assert tell(loaded) == [(os.getpid(), 2)]


def test_explain_tells_all_of_it(skel: Any) -> None:
    with opened(skel) as bpf:
        bpf.maps.ring.flags = NO_SUCH_FLAG
        with bpf.load() as loaded:
            text = loaded.explain()
            library = loaded._held.libbpf
    lines = text.splitlines()
    assert lines[0].endswith(f"loaded by libbpf {library.version[0]}.{library.version[1]}, {library.path}")
    assert lines[1].startswith("types: the kernel's own BTF, /sys/kernel/btf/vmlinux")
    at = lines.index("maps events: perf")
    assert lines[at + 1].startswith("  not ring: EINVAL")
    assert "optional program extra: loaded" in lines


class _Library:
    version, path = (1, 5), "/lib/libbpf.so.1"


def test_the_text_of_explain() -> None:
    choices = (
        alternatives.Choice("programs", "close", "kprobe", (alternatives.Refusal("fentry", "ESRCH: No", errno=3),)),
        alternatives.Choice("maps", "events", None, ()),
        alternatives.Choice("optional", "more", None, (alternatives.Refusal("more", "EPERM: Not", errno=1),)),
        alternatives.Choice("optional", "yet", "yet"),
    )
    library: Any = _Library()
    assert alternatives.explain("a.bpf.c", choices, btf="none", libbpf=library) == (
        "a.bpf.c: loaded by libbpf 1.5, /lib/libbpf.so.1\n"
        "types: none\n"
        "programs close: kprobe\n"
        "  not fentry: ESRCH: No\n"
        "maps events: none\n"
        "optional program more: left out\n"
        "  EPERM: Not\n"
        "optional program yet: loaded"
    )


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], ""),
        (["failed to load object 'x'"], ""),
        (["map 'm': failed to create: no", "failed to load object 'x'"], "map 'm': failed to create: no"),
        (
            [
                "prog 'p': BPF program load failed: Invalid argument",
                "prog 'p': -- BEGIN PROG LOAD LOG --",
                "0: (b7) r0 = 0",
                "R1 !read_ok",
                "processed 1 insns",
                "-- END PROG LOAD LOG --",
                "prog 'p': failed to load: -22",
                "failed to load object 'x'",
            ],
            "R1 !read_ok",
        ),
    ],
)
def test_the_last_words_are_those_that_say_something(lines: list[str], wanted: str) -> None:
    assert alternatives._last_words(lines) == wanted


def test_struct_ops_are_none_of_a_trials_business(tmp_path: Path) -> None:
    tracefs.mounted()
    text = (BPF / "struct_ops.bpf.c").read_text()
    source = tmp_path / "mixed.bpf.c"
    source.write_text(
        text
        + 'SEC("raw_tp/sys_enter") int never(void *ctx) { return *(volatile int *)8; }\n'
        + 'SEC("raw_tp/sys_enter") int plain(void *ctx) { return 0; }\n'
    )
    options = Alternatives({"either": ("never", "plain")})
    text = skeleton_text(source, tmp_path, alternatives=options, runtime="hatch_bpf.runtime")
    with import_skeleton("mixed_skel", text, tmp_path).Mixed.run() as loaded:
        assert choice(loaded, "either").chosen == "plain"
        assert [link.program.name for link in loaded.links] == ["plain", "counting"]
