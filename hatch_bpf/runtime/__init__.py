"""The runtime behind generated skeletons: standard library only, copied unchanged into every wheel as `_bpf/runtime`.

It drives libbpf through ctypes. Generated code only declares; the behaviour is here. Start reading in `skeleton.py`.
A name is imported from its module when it is first asked for, so that skeletons import fast.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .alternatives import (
        Choice,
        Refusal,
    )
    from .command import as_command, intervals
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
    from .events.source import (
        EventSource,
        wait,
    )
    from .events.userringbuf import UserRingBuffer
    from .host.kernel import BtfChoice
    from .maps.histograms import (
        Bucket,
        Histogram,
        LinearHistogram,
        Log2Histogram,
        text_by_key,
    )
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
    from .maps.shapes import MapInfo
    from .maps.stacks import (
        BuildIdFrame,
        BuildIdStacks,
        StackTraces,
    )
    from .opened import (
        OpenedMap,
        OpenedProgram,
    )
    from .programs.interfaces import (
        tc_hook_destroy,
        tc_query,
        xdp_query,
    )
    from .programs.links import Link
    from .programs.pins import (
        PinnedLink,
        PinnedProgram,
    )
    from .programs.program import (
        Program,
        Programs,
    )
    from .programs.targets import (
        functions_of,
        kernel_functions,
        tracepoints,
        usdts_of,
    )
    from .programs.testrun import TestRun
    from .skeleton import (
        Loaded,
        Opened,
        PinnedMap,
        Skeleton,
    )
    from .spec import (
        GroupSpec,
        MapSpec,
        ObjectSpec,
        ProgramSpec,
        SectionSpec,
    )
    from .structops import StructOps
    from .symbols.folded import FoldedStacks
    from .symbols.frame import Frame
    from .symbols.symbolizer import Symbolizer
    from .system.features import (
        has_attach_type,
        has_helper,
        has_kfunc,
        has_map_type,
        has_program_type,
    )
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
    from .system.tracing import (
        TraceLine,
        read_stream,
        trace_pipe,
    )
else:
    _MODULES = {
        "ArchitectureError": "errors",
        "ArrayMap": "maps.map",
        "AttachError": "errors",
        "BloomFilter": "maps.map",
        "BpfError": "errors",
        "BtfChoice": "host.kernel",
        "BtfInfo": "system.objects",
        "Bucket": "maps.histograms",
        "BuildIdFrame": "maps.stacks",
        "BuildIdStacks": "maps.stacks",
        "Choice": "alternatives",
        "ClosedError": "errors",
        "DescriptorMap": "maps.map",
        "EventSource": "events.source",
        "FoldedStacks": "symbols.folded",
        "Frame": "symbols.frame",
        "GroupSpec": "spec",
        "HashMap": "maps.map",
        "Histogram": "maps.histograms",
        "InnerMapSpec": "maps.map",
        "InvalidTypeError": "errors",
        "InvalidValueError": "errors",
        "KernelNotCoveredError": "errors",
        "LibbpfNotFoundError": "errors",
        "LibbpfTooOldError": "errors",
        "LinearHistogram": "maps.histograms",
        "Link": "programs.links",
        "LinkInfo": "system.objects",
        "LoadError": "errors",
        "Loaded": "skeleton",
        "LocalStorage": "maps.map",
        "Log2Histogram": "maps.histograms",
        "LpmTrie": "maps.map",
        "Map": "maps.map",
        "MapError": "errors",
        "MapInfo": "maps.shapes",
        "MapOfMaps": "maps.map",
        "MapSpec": "spec",
        "Maps": "maps.map",
        "ObjectSpec": "spec",
        "OpenError": "errors",
        "Opened": "skeleton",
        "OpenedMap": "opened",
        "OpenedProgram": "opened",
        "PackageError": "errors",
        "PerCpuArrayMap": "maps.map",
        "PerCpuHashMap": "maps.map",
        "PerfBuffer": "events.perfbuf",
        "PermissionDeniedError": "errors",
        "PinnedLink": "programs.pins",
        "PinnedMap": "skeleton",
        "PinnedProgram": "programs.pins",
        "Program": "programs.program",
        "ProgramArray": "maps.map",
        "ProgramInfo": "system.objects",
        "ProgramSpec": "spec",
        "Programs": "programs.program",
        "Queue": "maps.map",
        "Refusal": "alternatives",
        "RingBuffer": "events.ringbuf",
        "SectionSpec": "spec",
        "Skeleton": "skeleton",
        "StackTraces": "maps.stacks",
        "StructOps": "structops",
        "SymbolError": "errors",
        "Symbolizer": "symbols.symbolizer",
        "TestRun": "programs.testrun",
        "TraceLine": "system.tracing",
        "UnknownNameError": "errors",
        "UserRingBuffer": "events.userringbuf",
        "VerifierError": "errors",
        "as_command": "command",
        "count_runs": "system.objects",
        "functions_of": "programs.targets",
        "has_attach_type": "system.features",
        "has_helper": "system.features",
        "has_kfunc": "system.features",
        "has_map_type": "system.features",
        "has_program_type": "system.features",
        "intervals": "command",
        "kernel_functions": "programs.targets",
        "loaded_btfs": "system.objects",
        "loaded_links": "system.objects",
        "loaded_maps": "system.objects",
        "loaded_programs": "system.objects",
        "read_stream": "system.tracing",
        "tc_hook_destroy": "programs.interfaces",
        "tc_query": "programs.interfaces",
        "text_by_key": "maps.histograms",
        "trace_pipe": "system.tracing",
        "tracepoints": "programs.targets",
        "usdts_of": "programs.targets",
        "wait": "events.source",
        "xdp_query": "programs.interfaces",
    }

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib
        import sys

        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        setattr(sys.modules[__name__], name, value)  # so that nobody has to look again
        return value

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
    "MapInfo",
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
    "PinnedMap",
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
    "functions_of",
    "has_attach_type",
    "has_helper",
    "has_kfunc",
    "has_map_type",
    "has_program_type",
    "intervals",
    "kernel_functions",
    "loaded_btfs",
    "loaded_links",
    "loaded_maps",
    "loaded_programs",
    "read_stream",
    "tc_hook_destroy",
    "tc_query",
    "text_by_key",
    "trace_pipe",
    "tracepoints",
    "usdts_of",
    "wait",
    "xdp_query",
]
