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
from .events import EventSource, wait
from .kernel import BtfChoice
from .links import Link
from .maps import (
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
from .opened import OpenedMap, OpenedProgram
from .perfbuf import PerfBuffer
from .programs import Program, Programs
from .ringbuf import RingBuffer
from .skeleton import Loaded, Opened, Skeleton
from .spec import GroupSpec, MapSpec, ObjectSpec, ProgramSpec, SectionSpec
from .stacks import BuildIdFrame, BuildIdStacks, StackTraces
from .structops import StructOps
from .testrun import TestRun
from .userringbuf import UserRingBuffer

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
