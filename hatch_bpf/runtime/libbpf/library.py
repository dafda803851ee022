"""libbpf through ctypes: find the library, check its version, declare its functions.

Input: the machine's library folders, or an explicit path. Output: a `Libbpf`, whose attributes are libbpf's functions,
the same for 0.6 to 1.x. A missing function is a `LibbpfTooOldError` that names the version which has it.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p

from ..errors import LibbpfNotFoundError, LibbpfTooOldError
from ..privileges import in_user_namespace
from ..types import named, scalars_of
from . import bundled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

SONAMES = (bundled.SONAME, "libbpf.so.0")
MINIMUM = (0, 6)
"""`btf_custom_path` came with libbpf 0.6."""

_PACKAGES = "install it: apt install libbpf1 (Debian 12, Ubuntu 23.04 and later; libbpf0 before), dnf install libbpf (Fedora), apk add libbpf (Alpine)"  # noqa: E501

_BUNDLED = "the package brings this one: build it with a newer hatch-bpf, which bundles a newer libbpf"


class Options:
    """A struct of libbpf's. `opts()` makes a ctypes class of it when needed, since making them all takes long."""

    _fields_: tuple[tuple[str, Any], ...]
    """The fields that follow the struct's size, with which every one begins."""


class OpenOpts(Options):
    """`struct bpf_object_open_opts`, as of libbpf 1.4. Older versions accept fields that they do not know if these are
    zero."""

    _fields_ = (
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("_attach_prog_fd", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("_kernel_log_buf", c_void_p),
        ("_kernel_log_size", c_size_t),
        ("_kernel_log_level", c_uint32),
        ("bpf_token_path", c_char_p),
    )


class CookieOpts(Options):
    """`bpf_tracepoint_opts`, `bpf_perf_event_opts`, `bpf_trace_opts`, `bpf_usdt_opts`: a size and a cookie."""

    _fields_ = (("cookie", c_uint64),)


class KprobeOpts(Options):
    """`struct bpf_kprobe_opts`, as of libbpf 0.6."""

    _fields_ = (("bpf_cookie", c_uint64), ("offset", c_size_t), ("retprobe", c_bool))


class KprobeMultiOpts(Options):
    """`struct bpf_kprobe_multi_opts`, as of libbpf 1.5 (0.8 lacks session)."""

    _fields_ = (
        ("syms", POINTER(c_char_p)),
        ("addrs", c_void_p),
        ("cookies", POINTER(c_uint64)),
        ("cnt", c_size_t),
        ("retprobe", c_bool),
        ("session", c_bool),
    )


class KsyscallOpts(Options):
    """`struct bpf_ksyscall_opts`, as of libbpf 1.0."""

    _fields_ = (("bpf_cookie", c_uint64), ("retprobe", c_bool))


class UprobeOpts(Options):
    """`struct bpf_uprobe_opts`, as of libbpf 0.8 (0.6 lacks func_name)."""

    _fields_ = (
        ("ref_ctr_offset", c_size_t),
        ("bpf_cookie", c_uint64),
        ("retprobe", c_bool),
        ("func_name", c_char_p),
    )


class UprobeMultiOpts(Options):
    """`struct bpf_uprobe_multi_opts`, as of libbpf 1.3."""

    _fields_ = (
        ("syms", POINTER(c_char_p)),
        ("offsets", POINTER(ctypes.c_ulong)),
        ("ref_ctr_offsets", c_void_p),
        ("cookies", POINTER(c_uint64)),
        ("cnt", c_size_t),
        ("retprobe", c_bool),
    )


class LinkCreateOpts(Options):
    """`struct bpf_link_create_opts`, its first field only."""

    _fields_ = (("flags", c_uint32),)


class IterOpts(Options):
    """`struct bpf_iter_attach_opts`."""

    _fields_ = (("link_info", c_void_p), ("link_info_len", c_uint32))


class TcHook(Options):
    """`struct bpf_tc_hook`."""

    _fields_ = (("ifindex", c_int), ("attach_point", c_int), ("parent", c_uint32))


class TcOpts(Options):
    """`struct bpf_tc_opts`."""

    _fields_ = (
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


class NetfilterOpts(Options):
    """`struct bpf_netfilter_opts`, as of libbpf 1.3, without the flags."""

    _fields_ = (("pf", c_uint32), ("hooknum", c_uint32), ("priority", ctypes.c_int32))


class XdpAttachOpts(Options):
    """`struct bpf_xdp_attach_opts`."""

    _fields_ = (("old_prog_fd", c_int),)


class XdpQueryOpts(Options):
    """`struct bpf_xdp_query_opts`, as of libbpf 0.7."""

    _fields_ = (
        ("prog_id", c_uint32),
        ("drv_prog_id", c_uint32),
        ("hw_prog_id", c_uint32),
        ("skb_prog_id", c_uint32),
        ("attach_mode", c_uint8),
    )


class TestRunOpts(Options):
    """`struct bpf_test_run_opts`, as of libbpf 0.6, without the last two."""

    _fields_ = (
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
    )


class BatchOpts(Options):
    """`struct bpf_map_batch_opts`, without the flags."""

    _fields_ = (("elem_flags", c_uint64),)


class MapCreateOpts(Options):
    """`struct bpf_map_create_opts`."""

    _fields_ = (
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
    )


_structures: dict[type[Options], Any] = {}


def opts(cls: type[Options], **values: Any) -> Any:
    """An options struct with its own size filled in."""
    structure = _structures.get(cls)
    if structure is None:
        fields = (("sz", c_size_t), *cls._fields_)
        structure = _structures[cls] = type(cls.__name__, (ctypes.Structure,), {"_fields_": fields})
    for name, scalar in scalars_of(structure).items():
        if name in values:  # ctypes itself would cut a number to the bits that fit
            values[name] = named(name.replace("bpf_", ""), scalar.put, values[name])
    return structure(sz=ctypes.sizeof(structure), **values)


_P, _S = c_void_p, c_char_p
_FUNCTIONS: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    # name: (first version that has it, result, arguments; all pointers are void *, since ctypes makes types slowly)
    "libbpf_major_version": ("0.6", c_uint32, ()),
    "libbpf_minor_version": ("0.6", c_uint32, ()),
    "libbpf_set_print": ("0.0.1", _P, (_P,)),
    "libbpf_set_strict_mode": ("0.5", c_int, (c_int,)),
    "libbpf_num_possible_cpus": ("0.0.4", c_int, ()),
    "bpf_object__open_mem": ("0.0.6", _P, (_P, c_size_t, _P)),
    "bpf_object__load": ("0.0.1", c_int, (_P,)),
    "bpf_object__load_skeleton": ("0.0.7", c_int, (_P,)),
    "bpf_object__close": ("0.0.1", None, (_P,)),
    "bpf_object__find_map_by_name": ("0.0.1", _P, (_P, _S)),
    "bpf_object__next_map": ("0.6", _P, (_P, _P)),
    "bpf_object__find_program_by_name": ("0.0.7", _P, (_P, _S)),
    "bpf_map__is_internal": ("0.0.1", c_bool, (_P,)),
    "bpf_map__fd": ("0.0.1", c_int, (_P,)),
    "bpf_map__type": ("0.1", c_int, (_P,)),
    "bpf_map__set_type": ("0.1", c_int, (_P, c_int)),
    "bpf_map__max_entries": ("0.1", c_uint32, (_P,)),
    "bpf_map__set_max_entries": ("0.1", c_int, (_P, c_uint32)),
    "bpf_map__map_flags": ("0.1", c_uint32, (_P,)),
    "bpf_map__set_map_flags": ("0.1", c_int, (_P, c_uint32)),
    "bpf_map__key_size": ("0.1", c_uint32, (_P,)),
    "bpf_map__set_key_size": ("0.1", c_int, (_P, c_uint32)),
    "bpf_map__value_size": ("0.1", c_uint32, (_P,)),
    "bpf_map__set_value_size": ("0.1", c_int, (_P, c_uint32)),
    "bpf_map__initial_value": ("0.5", _P, (_P, _P)),
    "bpf_map__set_initial_value": ("0.0.8", c_int, (_P, _P, c_size_t)),
    "bpf_map__autocreate": ("0.8", c_bool, (_P,)),
    "bpf_map__set_autocreate": ("0.8", c_int, (_P, c_bool)),
    "bpf_map__reuse_fd": ("0.0.1", c_int, (_P, c_int)),
    "bpf_map__pin_path": ("0.5", _S, (_P,)),
    "bpf_map__set_pin_path": ("0.0.6", c_int, (_P, _S)),
    "bpf_map__attach_struct_ops": ("0.0.7", _P, (_P,)),
    "bpf_program__fd": ("0.0.1", c_int, (_P,)),
    "bpf_program__autoload": ("0.1", c_bool, (_P,)),
    "bpf_program__set_autoload": ("0.1", c_int, (_P, c_bool)),
    "bpf_program__set_log_level": ("0.7", c_int, (_P, c_uint32)),
    "bpf_program__set_attach_target": ("0.0.8", c_int, (_P, c_int, _S)),
    "bpf_program__attach": ("0.0.7", _P, (_P,)),
    "bpf_program__attach_cgroup": ("0.0.8", _P, (_P, c_int)),
    "bpf_program__attach_freplace": ("0.2", _P, (_P, c_int, _S)),
    "bpf_program__attach_iter": ("0.0.9", _P, (_P, _P)),
    "bpf_program__attach_kprobe_opts": ("0.5", _P, (_P, _S, _P)),
    "bpf_program__attach_kprobe_multi_opts": ("0.8", _P, (_P, _S, _P)),
    "bpf_program__attach_ksyscall": ("1.0", _P, (_P, _S, _P)),
    "bpf_program__attach_netfilter": ("1.3", _P, (_P, _P)),
    "bpf_program__attach_netns": ("0.0.9", _P, (_P, c_int)),
    "bpf_program__attach_perf_event_opts": ("0.5", _P, (_P, c_int, _P)),
    "bpf_program__attach_raw_tracepoint": ("0.0.4", _P, (_P, _S)),
    "bpf_program__attach_tcx": ("1.3", _P, (_P, c_int, _P)),
    "bpf_program__attach_netkit": ("1.3", _P, (_P, c_int, _P)),
    "bpf_program__attach_tracepoint_opts": ("0.5", _P, (_P, _S, _S, _P)),
    "bpf_program__attach_uprobe_opts": ("0.5", _P, (_P, c_int, _S, c_size_t, _P)),
    "bpf_program__attach_uprobe_multi": ("1.3", _P, (_P, c_int, _S, _S, _P)),
    "bpf_program__attach_usdt": ("0.8", _P, (_P, c_int, _S, _S, _S, _P)),
    "bpf_link__fd": ("0.0.8", c_int, (_P,)),
    "bpf_link__disconnect": ("0.0.7", None, (_P,)),
    "bpf_link__destroy": ("0.0.4", c_int, (_P,)),
    "bpf_link__update_map": ("1.2", c_int, (_P, _P)),
    "bpf_link__update_program": ("0.0.8", c_int, (_P, _P)),
    "bpf_link_create": ("0.0.8", c_int, (c_int, c_int, c_int, _P)),
    "bpf_raw_tracepoint_open": ("0.0.1", c_int, (c_char_p, c_int)),
    "bpf_link_update": ("0.0.8", c_int, (c_int, c_int, _P)),
    "bpf_iter_create": ("0.0.9", c_int, (c_int,)),
    "bpf_prog_attach": ("0.0.1", c_int, (c_int, c_int, c_int, c_uint32)),
    "bpf_prog_detach2": ("0.0.1", c_int, (c_int, c_int, c_int)),
    "bpf_prog_test_run_opts": ("0.2", c_int, (c_int, _P)),
    "bpf_xdp_attach": ("0.7", c_int, (c_int, c_int, c_uint32, _P)),
    "bpf_xdp_query": ("0.7", c_int, (c_int, c_int, _P)),
    "bpf_xdp_query_id": ("0.7", c_int, (c_int, c_int, _P)),
    "bpf_tc_hook_create": ("0.4", c_int, (_P,)),
    "bpf_tc_attach": ("0.4", c_int, (_P, _P)),
    "bpf_tc_query": ("0.4", c_int, (_P, _P)),
    "bpf_tc_detach": ("0.4", c_int, (_P, _P)),
    "bpf_tc_hook_destroy": ("0.4", c_int, (_P,)),
    "bpf_map_create": ("0.6", c_int, (c_int, _S, c_uint32, c_uint32, c_uint32, _P)),
    "bpf_map_lookup_elem": ("0.0.1", c_int, (c_int, _P, _P)),
    "bpf_map_lookup_elem_flags": ("0.0.2", c_int, (c_int, _P, _P, c_uint64)),
    "bpf_map_lookup_and_delete_elem": ("0.0.1", c_int, (c_int, _P, _P)),
    "bpf_map_lookup_and_delete_elem_flags": ("0.5", c_int, (c_int, _P, _P, c_uint64)),
    "bpf_map_update_elem": ("0.0.1", c_int, (c_int, _P, _P, c_uint64)),
    "bpf_map_delete_elem": ("0.0.1", c_int, (c_int, _P)),
    "bpf_map_get_next_key": ("0.0.1", c_int, (c_int, _P, _P)),
    "bpf_map_lookup_batch": ("0.0.7", c_int, (c_int, _P, _P, _P, _P, _P, _P)),
    "bpf_map_lookup_and_delete_batch": ("0.0.7", c_int, (c_int, _P, _P, _P, _P, _P, _P)),
    "bpf_map_update_batch": ("0.0.7", c_int, (c_int, _P, _P, _P, _P)),
    "bpf_map_delete_batch": ("0.0.7", c_int, (c_int, _P, _P, _P)),
    "bpf_prog_get_next_id": ("0.0.1", c_int, (c_uint32, _P)),
    "bpf_map_get_next_id": ("0.0.1", c_int, (c_uint32, _P)),
    "bpf_link_get_next_id": ("0.0.9", c_int, (c_uint32, _P)),
    "bpf_btf_get_next_id": ("0.0.5", c_int, (c_uint32, _P)),
    "bpf_prog_get_fd_by_id": ("0.0.1", c_int, (c_uint32,)),
    "bpf_map_get_fd_by_id": ("0.0.1", c_int, (c_uint32,)),
    "bpf_link_get_fd_by_id": ("0.0.9", c_int, (c_uint32,)),
    "bpf_btf_get_fd_by_id": ("0.0.1", c_int, (c_uint32,)),
    "bpf_enable_stats": ("0.0.9", c_int, (c_int,)),
    "btf__load_vmlinux_btf": ("0.5", _P, ()),
    "btf__find_by_name_kind": ("0.0.9", c_int, (_P, _S, c_uint32)),
    "btf__type_by_id": ("0.0.1", _P, (_P, c_uint32)),
    "btf__name_by_offset": ("0.0.1", _S, (_P, c_uint32)),
    "btf__free": ("0.0.1", None, (_P,)),
    "libbpf_probe_bpf_prog_type": ("0.7", c_int, (c_int, _P)),
    "libbpf_probe_bpf_map_type": ("0.7", c_int, (c_int, _P)),
    "libbpf_probe_bpf_helper": ("0.7", c_int, (c_int, c_int, _P)),
    "bpf_link_detach": ("0.1", c_int, (c_int,)),
    "bpf_token_create": ("1.4", c_int, (c_int, _P)),
    "bpf_obj_get": ("0.0.1", c_int, (_S,)),
    "bpf_obj_pin": ("0.0.1", c_int, (c_int, _S)),
    "bpf_obj_get_info_by_fd": ("0.0.1", c_int, (c_int, _P, _P)),
    "user_ring_buffer__new": ("1.1", _P, (c_int, _P)),
    "user_ring_buffer__reserve": ("1.1", _P, (_P, c_uint32)),
    "user_ring_buffer__submit": ("1.1", None, (_P, _P)),
    "user_ring_buffer__free": ("1.1", None, (_P,)),
}


class Libbpf:
    """One libbpf.so. Its attributes are the declared functions, each looked up at its first use."""

    def __init__(self, path: str, dll: Optional[ctypes.CDLL] = None) -> None:
        """Use a loaded library, or load the one at `path`. Raises `LibbpfNotFoundError`, `LibbpfTooOldError`."""
        self.path = path
        self._remedy = _PACKAGES if dll is None else _BUNDLED
        try:
            self._dll = dll or ctypes.CDLL(path, use_errno=True)
        except OSError as error:
            from .unfit import why_unfit

            why = why_unfit(path, bundled.running_libc())
            said = f"{why} ({error})" if why else str(error)
            raise LibbpfNotFoundError(f"{path} cannot be loaded as libbpf: {said}") from error
        if not hasattr(self._dll, "libbpf_major_version"):
            raise LibbpfTooOldError(
                f"{path} is older than libbpf {_in_words(MINIMUM)}, the oldest that can be given an embedded BTF; "
                + self._remedy
            )
        self.version: tuple[int, int] = (self.libbpf_major_version(), self.libbpf_minor_version())
        if self.version[0] == 0:
            self._set_strict_mode()

    def __getattr__(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise AttributeError(name)
        since, result, arguments = _FUNCTIONS[name]
        try:
            function = getattr(self._dll, name)
        except AttributeError:
            raise self._too_old(f"{name}()", since) from None
        function.restype = result
        function.argtypes = arguments
        setattr(self, name, function)
        return function

    def has(self, name: str) -> bool:
        """Whether this libbpf has a function."""
        return hasattr(self._dll, name)

    def require(self, version: tuple[int, int], what: str) -> None:
        """Raise `LibbpfTooOldError` if this libbpf is older than `version`, which `what` needs."""
        if self.version < version:
            raise self._too_old(what, _in_words(version))

    def _too_old(self, what: str, wanted: str) -> LibbpfTooOldError:
        have = _in_words(self.version)
        return LibbpfTooOldError(f"{what} needs libbpf {wanted} or later; {self.path} is libbpf {have}; {self._remedy}")

    def _set_strict_mode(self) -> None:
        """Make libbpf 0.x behave like 1.x: NULL and errno, direct error codes, RLIMIT_MEMLOCK raised if needed."""
        clean_pointers, direct_errors, auto_memlock = 0x1, 0x2, 0x10
        if self.libbpf_set_strict_mode(clean_pointers | direct_errors | auto_memlock):
            self.libbpf_set_strict_mode(clean_pointers | direct_errors)
            _raise_memlock()


def _in_words(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _raise_memlock() -> None:
    """Raise RLIMIT_MEMLOCK, which limits BPF before Linux 5.11. libbpf 0.7 and later do it themselves."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        pass  # CAP_SYS_RESOURCE is missing; if the limit matters, the load fails and says so


_loaded: dict[tuple[str, str], Libbpf] = {}


def load(path: Optional[str] = None, *, libraries: str = "") -> Libbpf:
    """The libbpf at an explicit path, else the package's own, else the machine's.

    `libraries` is the sha256 of the list of the package's own libraries; without it the package has none.
    Raises `LibbpfNotFoundError`, `LibbpfTooOldError`, or `PackageError`.
    """
    key = ("", libraries) if path is None else (os.path.abspath(path), "")
    if key not in _loaded:
        if path is None and libraries:
            bpf_dir = os.path.abspath(f"{__file__}/../../..")  # out of the folders libbpf/ and runtime/
            _loaded[key] = Libbpf(*bundled.load_bundled(bpf_dir, libraries))
        else:
            _loaded[key] = Libbpf(key[0] or find())
    return _loaded[key]


def current() -> Libbpf:
    """The libbpf that this process's skeletons use already, else the machine's. Raises `LibbpfNotFoundError`."""
    return next(iter(tuple(_loaded.values())), None) or load()


def find() -> str:
    """The path of the machine's libbpf.so. Raises `LibbpfNotFoundError`.

    This usually runs as root, so it ignores the current folder and LD_LIBRARY_PATH, and root loads no library that
    others could have put there.
    """
    folders = library_folders()
    there = list(filter(os.path.exists, (os.path.join(folder, soname) for soname in SONAMES for folder in folders)))
    for path in filter(trusted, there):
        return path
    if there:
        raise LibbpfNotFoundError(
            f"{', '.join(there)} can be changed by others than root, so root does not load it: revoke their "
            f"write permission (on the file and its folder), or name the file with libbpf="
        )
    raise LibbpfNotFoundError(f"{' or '.join(SONAMES)} is in none of {', '.join(folders)}; {_PACKAGES}")


def trusted(path: str) -> bool:
    """Whether a library may be loaded: root loads none that others can change or replace."""
    if os.geteuid() != 0 or in_user_namespace():
        return True
    real = os.path.realpath(path)
    found = map(os.stat, {os.path.dirname(path), os.path.dirname(real), real})
    return not any(file.st_uid or file.st_mode & 0o002 or (file.st_gid and file.st_mode & 0o020) for file in found)


def library_folders() -> list[str]:
    """The folders in which distributions put libraries of this process's word size and architecture."""
    machine = os.uname().machine
    folders = []
    for prefix in ("/usr/lib", "/lib"):
        try:
            names = sorted(os.listdir(prefix))
        except OSError:
            continue
        # Debian's multiarch folders: /usr/lib/x86_64-linux-gnu, /usr/lib/arm-linux-gnueabihf
        folders += [f"{prefix}/{name}" for name in names if name.startswith(machine + "-linux-")]
    folders += ["/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib64", "/usr/local/lib"]
    return [folder for folder in folders if os.path.isdir(folder)]
