"""The runtime behind generated skeletons: standard library only, copied unchanged into every wheel as `_bpf/runtime`.

It drives libbpf through ctypes. Generated code only declares; the behaviour is here. Start reading in `skeleton.py`.
A name is imported from its module when it is first asked for, so that skeletons import fast.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .alternatives import Choice as Choice
    from .alternatives import Refusal as Refusal
    from .command import as_command as as_command
    from .command import intervals as intervals
    from .errors import ArchitectureError as ArchitectureError
    from .errors import AttachError as AttachError
    from .errors import BpfError as BpfError
    from .errors import ClosedError as ClosedError
    from .errors import InvalidTypeError as InvalidTypeError
    from .errors import InvalidValueError as InvalidValueError
    from .errors import KernelNotCoveredError as KernelNotCoveredError
    from .errors import LibbpfNotFoundError as LibbpfNotFoundError
    from .errors import LibbpfTooOldError as LibbpfTooOldError
    from .errors import LoadError as LoadError
    from .errors import MapError as MapError
    from .errors import OpenError as OpenError
    from .errors import PackageError as PackageError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import SymbolError as SymbolError
    from .errors import UnknownNameError as UnknownNameError
    from .errors import VerifierError as VerifierError
    from .events.perfbuf import PerfBuffer as PerfBuffer
    from .events.ringbuf import RingBuffer as RingBuffer
    from .events.source import EventSource as EventSource
    from .events.source import wait as wait
    from .events.userringbuf import UserRingBuffer as UserRingBuffer
    from .host.kernel import BtfChoice as BtfChoice
    from .maps.arrays import ArrayMap as ArrayMap
    from .maps.build_ids import BuildIdFrame as BuildIdFrame
    from .maps.descriptors import DescriptorMap as DescriptorMap
    from .maps.descriptors import LocalStorage as LocalStorage
    from .maps.descriptors import ProgramArray as ProgramArray
    from .maps.hashes import HashMap as HashMap
    from .maps.hashes import LpmTrie as LpmTrie
    from .maps.histograms import Bucket as Bucket
    from .maps.histograms import Histogram as Histogram
    from .maps.histograms import LinearHistogram as LinearHistogram
    from .maps.histograms import Log2Histogram as Log2Histogram
    from .maps.histograms import text_by_key as text_by_key
    from .maps.map import Map as Map
    from .maps.of_maps import InnerMapSpec as InnerMapSpec
    from .maps.of_maps import MapOfMaps as MapOfMaps
    from .maps.of_maps import Maps as Maps
    from .maps.percpu import PerCpuArrayMap as PerCpuArrayMap
    from .maps.percpu import PerCpuHashMap as PerCpuHashMap
    from .maps.queues import BloomFilter as BloomFilter
    from .maps.queues import Queue as Queue
    from .maps.shapes import MapInfo as MapInfo
    from .maps.stacks import BuildIdStacks as BuildIdStacks
    from .maps.stacks import StackTraces as StackTraces
    from .opened import OpenedMap as OpenedMap
    from .opened import OpenedProgram as OpenedProgram
    from .programs.interfaces import tc_hook_destroy as tc_hook_destroy
    from .programs.interfaces import tc_query as tc_query
    from .programs.interfaces import xdp_query as xdp_query
    from .programs.links import Link as Link
    from .programs.pins import PinnedLink as PinnedLink
    from .programs.pins import PinnedProgram as PinnedProgram
    from .programs.program import Program as Program
    from .programs.program import Programs as Programs
    from .programs.targets import functions_of as functions_of
    from .programs.targets import kernel_functions as kernel_functions
    from .programs.targets import tracepoints as tracepoints
    from .programs.targets import usdts_of as usdts_of
    from .programs.testrun import TestRun as TestRun
    from .skeleton import Loaded as Loaded
    from .skeleton import Opened as Opened
    from .skeleton import PinnedMap as PinnedMap
    from .skeleton import Skeleton as Skeleton
    from .spec import GroupSpec as GroupSpec
    from .spec import MapSpec as MapSpec
    from .spec import ObjectSpec as ObjectSpec
    from .spec import ProgramSpec as ProgramSpec
    from .spec import SectionSpec as SectionSpec
    from .structops import StructOps as StructOps
    from .symbols.folded import FoldedStacks as FoldedStacks
    from .symbols.frame import Frame as Frame
    from .symbols.symbolizer import Symbolizer as Symbolizer
    from .system.features import has_attach_type as has_attach_type
    from .system.features import has_helper as has_helper
    from .system.features import has_kfunc as has_kfunc
    from .system.features import has_map_type as has_map_type
    from .system.features import has_program_type as has_program_type
    from .system.objects import BtfInfo as BtfInfo
    from .system.objects import LinkInfo as LinkInfo
    from .system.objects import ProgramInfo as ProgramInfo
    from .system.objects import count_runs as count_runs
    from .system.objects import loaded_btfs as loaded_btfs
    from .system.objects import loaded_links as loaded_links
    from .system.objects import loaded_maps as loaded_maps
    from .system.objects import loaded_programs as loaded_programs
    from .system.syscalls import syscall_name as syscall_name
    from .system.tracing import TraceLine as TraceLine
    from .system.tracing import read_stream as read_stream
    from .system.tracing import trace_pipe as trace_pipe
else:
    _NAMES = {
        "alternatives": "Choice Refusal",
        "command": "as_command intervals",
        "errors": """
            ArchitectureError AttachError BpfError ClosedError InvalidTypeError InvalidValueError KernelNotCoveredError
            LibbpfNotFoundError LibbpfTooOldError LoadError MapError OpenError PackageError PermissionDeniedError
            SymbolError UnknownNameError VerifierError
        """,
        "events.perfbuf": "PerfBuffer",
        "events.ringbuf": "RingBuffer",
        "events.source": "EventSource wait",
        "events.userringbuf": "UserRingBuffer",
        "host.kernel": "BtfChoice",
        "maps.arrays": "ArrayMap",
        "maps.build_ids": "BuildIdFrame",
        "maps.descriptors": "DescriptorMap LocalStorage ProgramArray",
        "maps.hashes": "HashMap LpmTrie",
        "maps.histograms": "Bucket Histogram LinearHistogram Log2Histogram text_by_key",
        "maps.map": "Map",
        "maps.of_maps": "InnerMapSpec MapOfMaps Maps",
        "maps.percpu": "PerCpuArrayMap PerCpuHashMap",
        "maps.queues": "BloomFilter Queue",
        "maps.shapes": "MapInfo",
        "maps.stacks": "BuildIdStacks StackTraces",
        "opened": "OpenedMap OpenedProgram",
        "programs.interfaces": "tc_hook_destroy tc_query xdp_query",
        "programs.links": "Link",
        "programs.pins": "PinnedLink PinnedProgram",
        "programs.program": "Program Programs",
        "programs.targets": "functions_of kernel_functions tracepoints usdts_of",
        "programs.testrun": "TestRun",
        "skeleton": "Loaded Opened PinnedMap Skeleton",
        "spec": "GroupSpec MapSpec ObjectSpec ProgramSpec SectionSpec",
        "structops": "StructOps",
        "symbols.folded": "FoldedStacks",
        "symbols.frame": "Frame",
        "symbols.symbolizer": "Symbolizer",
        "system.features": "has_attach_type has_helper has_kfunc has_map_type has_program_type",
        "system.objects": """
            BtfInfo LinkInfo ProgramInfo count_runs loaded_btfs loaded_links loaded_maps loaded_programs
        """,
        "system.syscalls": "syscall_name",
        "system.tracing": "TraceLine read_stream trace_pipe",
    }
    """The same names as above by module, which is imported when one of them is asked for."""
    _MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
    __all__ = sorted(_MODULES)

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib
        import sys

        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        setattr(sys.modules[__name__], name, value)  # the next access finds it without this function
        return value

    def __dir__():
        return __all__
