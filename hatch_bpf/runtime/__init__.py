"""The runtime behind generated skeletons: standard library only, copied unchanged into every wheel as `_bpf/runtime`.

It drives libbpf through ctypes. Generated code only declares; the behaviour is here. Start reading in `skeleton.py`.
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

__all__ = [
    "ArchitectureError",
    "ArrayMap",
    "AttachError",
    "BloomFilter",
    "BpfError",
    "BtfChoice",
    "BuildIdFrame",
    "BuildIdStacks",
    "Choice",
    "ClosedError",
    "DescriptorMap",
    "EventSource",
    "GroupSpec",
    "HashMap",
    "InnerMapSpec",
    "InvalidTypeError",
    "InvalidValueError",
    "KernelNotCoveredError",
    "LibbpfNotFoundError",
    "LibbpfTooOldError",
    "Link",
    "LoadError",
    "Loaded",
    "LocalStorage",
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
    "TestRun",
    "UnknownNameError",
    "UserRingBuffer",
    "VerifierError",
    "wait",
]
