"""The runtime behind generated skeletons: standard library only, copied unchanged into every wheel as `_bpf/runtime`.

It drives libbpf through ctypes. Generated code only declares; the behaviour is here. Start reading in `skeleton.py`.
What few packages use is imported when it is first asked for, so that skeletons import fast: `_LATER` has those names.
"""

from .alternatives import Choice, Refusal
from .errors import (
    ArchitectureError,
    AttachError,
    BpfError,
    ClosedError,
    InvalidTypeError,
    InvalidValueError,
    KernelNotCoveredError,
    LibbpfNotFoundError,
    LibbpfTooOldError,
    LoadError,
    MapError,
    OpenError,
    PackageError,
    PermissionDeniedError,
    SymbolError,
    UnknownNameError,
    VerifierError,
)
from .events.perfbuf import PerfBuffer
from .events.ringbuf import RingBuffer
from .events.source import EventSource, wait
from .events.userringbuf import UserRingBuffer
from .host.kernel import BtfChoice
from .maps.map import (
    ArrayMap,
    BloomFilter,
    DescriptorMap,
    HashMap,
    InnerMapSpec,
    LocalStorage,
    LpmTrie,
    Map,
    MapOfMaps,
    Maps,
    PerCpuArrayMap,
    PerCpuHashMap,
    ProgramArray,
    Queue,
)
from .maps.stacks import BuildIdFrame, BuildIdStacks, StackTraces
from .opened import OpenedMap, OpenedProgram
from .programs.links import Link
from .programs.program import Program, Programs
from .programs.testrun import TestRun
from .skeleton import Loaded, Opened, Skeleton
from .spec import GroupSpec, MapSpec, ObjectSpec, ProgramSpec, SectionSpec
from .structops import StructOps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .command import as_command, intervals
    from .maps.histograms import Bucket, Histogram, LinearHistogram, Log2Histogram, text_by_key
    from .programs.pins import PinnedLink, PinnedProgram
    from .symbols.folded import FoldedStacks
    from .symbols.frame import Frame
    from .symbols.symbolizer import Symbolizer
    from .system.features import has_attach_type, has_helper, has_kfunc, has_map_type, has_program_type
    from .system.objects import (
        BtfInfo,
        LinkInfo,
        ProgramInfo,
        count_runs,
        loaded_btfs,
        loaded_links,
        loaded_maps,
        loaded_programs,
    )
    from .system.tracing import TraceLine, read_stream, trace_pipe
else:
    _LATER = {
        "BtfInfo": "system.objects",
        "Bucket": "maps.histograms",
        "FoldedStacks": "symbols.folded",
        "Frame": "symbols.frame",
        "Histogram": "maps.histograms",
        "LinearHistogram": "maps.histograms",
        "LinkInfo": "system.objects",
        "Log2Histogram": "maps.histograms",
        "PinnedLink": "programs.pins",
        "PinnedProgram": "programs.pins",
        "ProgramInfo": "system.objects",
        "Symbolizer": "symbols.symbolizer",
        "TraceLine": "system.tracing",
        "as_command": "command",
        "count_runs": "system.objects",
        "has_attach_type": "system.features",
        "has_helper": "system.features",
        "has_kfunc": "system.features",
        "has_map_type": "system.features",
        "has_program_type": "system.features",
        "intervals": "command",
        "loaded_btfs": "system.objects",
        "loaded_links": "system.objects",
        "loaded_maps": "system.objects",
        "loaded_programs": "system.objects",
        "read_stream": "system.tracing",
        "text_by_key": "maps.histograms",
        "trace_pipe": "system.tracing",
    }

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)

    def __dir__():
        return __all__


__all__ = [
    "ArchitectureError",
    "ArrayMap",
    "AttachError",
    "BloomFilter",
    "BpfError",
    "BtfChoice",
    "BtfInfo",
    "Bucket",
    "BuildIdFrame",
    "BuildIdStacks",
    "Choice",
    "ClosedError",
    "DescriptorMap",
    "EventSource",
    "FoldedStacks",
    "Frame",
    "GroupSpec",
    "HashMap",
    "Histogram",
    "InnerMapSpec",
    "InvalidTypeError",
    "InvalidValueError",
    "KernelNotCoveredError",
    "LibbpfNotFoundError",
    "LibbpfTooOldError",
    "LinearHistogram",
    "Link",
    "LinkInfo",
    "LoadError",
    "Loaded",
    "LocalStorage",
    "Log2Histogram",
    "LpmTrie",
    "Map",
    "MapError",
    "MapOfMaps",
    "MapSpec",
    "Maps",
    "ObjectSpec",
    "OpenError",
    "Opened",
    "OpenedMap",
    "OpenedProgram",
    "PackageError",
    "PerCpuArrayMap",
    "PerCpuHashMap",
    "PerfBuffer",
    "PermissionDeniedError",
    "PinnedLink",
    "PinnedProgram",
    "Program",
    "ProgramArray",
    "ProgramInfo",
    "ProgramSpec",
    "Programs",
    "Queue",
    "Refusal",
    "RingBuffer",
    "SectionSpec",
    "Skeleton",
    "StackTraces",
    "StructOps",
    "SymbolError",
    "Symbolizer",
    "TestRun",
    "TraceLine",
    "UnknownNameError",
    "UserRingBuffer",
    "VerifierError",
    "as_command",
    "count_runs",
    "has_attach_type",
    "has_helper",
    "has_kfunc",
    "has_map_type",
    "has_program_type",
    "intervals",
    "loaded_btfs",
    "loaded_links",
    "loaded_maps",
    "loaded_programs",
    "read_stream",
    "text_by_key",
    "trace_pipe",
    "wait",
]
