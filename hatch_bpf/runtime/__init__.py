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
    from .maps.histograms import Bucket, Histogram, LinearHistogram, Log2Histogram, text_by_key
    from .symbols.folded import FoldedStacks
    from .symbols.frame import Frame
    from .symbols.symbolizer import Symbolizer
else:
    _LATER = {
        "Bucket": "maps.histograms",
        "FoldedStacks": "symbols.folded",
        "Frame": "symbols.frame",
        "Histogram": "maps.histograms",
        "LinearHistogram": "maps.histograms",
        "Log2Histogram": "maps.histograms",
        "Symbolizer": "symbols.symbolizer",
        "text_by_key": "maps.histograms",
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
    "Program",
    "ProgramArray",
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
    "UnknownNameError",
    "UserRingBuffer",
    "VerifierError",
    "text_by_key",
    "wait",
]
