"""Externs of an object on a kernel: which kernel symbols libbpf finds, and what a program reads from each extern.

Input: an object, a kernel and its features. Output: `FoundKsyms` with reasons, and the externs' values.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.compare import MAX_DEPTH, Comparison
from hatch_bpf.core_relo.spec import essential_name
from hatch_bpf.errors import RelocationError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.version import version_bounds
from hatch_bpf.objects.model import ObjectModel, Variable
from hatch_bpf.objects.uapi import helper
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import Reason
from hatch_bpf.support.budget import Budget
from hatch_bpf.verifier.values import NON_NULL, Settable, Value

GET_ATTACH_COOKIE = helper("get_attach_cookie")


class KsymKind:
    """How an extern of .ksyms is declared."""

    FUNCTION = 0
    VARIABLE = 1
    UNTYPED = 2


@dataclass(frozen=True)
class FoundKsyms:
    """Which kernel symbols of an object libbpf finds."""

    reasons: tuple[Reason, ...]
    kfuncs: tuple[tuple[str, bool | None], ...]
    """Names, flavors and all, and whether the kernel has them; None where its BTF does not say."""

    def has_kfunc(self, name: str) -> bool | None:
        return dict(self.kfuncs).get(name, False)


def ksym_kind(btf: Btf, extern: Variable) -> int:
    if isinstance(btf[extern.type_id], (t.Func, t.FuncProto)):
        return KsymKind.FUNCTION
    _, resolved = btf.resolve(extern.type_id)
    return KsymKind.UNTYPED if isinstance(resolved, t.Void) else KsymKind.VARIABLE


def kconfig_reasons(obj: ObjectModel) -> tuple[Reason, ...]:
    """What an object that reads the kernel's configuration needs on the host."""
    return tuple(
        because.kconfig_unknown(extern.name, is_needed=not extern.weak and extern.name not in _SET_EVERYWHERE)
        for extern in obj.kconfig
        if extern.name.startswith("CONFIG_")
    )


_SET_EVERYWHERE = frozenset({"CONFIG_HZ"})
"""Options that the configuration of every kernel sets, so that they need not be weak."""


FLAVORS_SINCE = (1, 3)
"""The first libbpf that finds kfuncs by names with flavors."""


def find_ksyms(obj: ObjectModel, features: KernelFeatures, *, with_flavors: bool) -> FoundKsyms:
    """Externs that libbpf looks for in the kernel before it loads any program.

    `with_flavors` is how libbpf does it from `FLAVORS_SINCE` on: a kfunc's name may have a flavor, and a weak kfunc of
    another type than the kernel's counts as missing.
    """
    reasons = []
    kfuncs = []
    for extern in obj.ksyms:
        kind = ksym_kind(obj.btf, extern)
        is_function = kind is KsymKind.FUNCTION
        name = essential_name(extern.name) if is_function and with_flavors else extern.name
        if is_function:
            is_there = features.has_kfunc(name)
        elif kind is KsymKind.VARIABLE:
            is_there = features.has_variable(name)
        else:
            is_there = _is_listed(name, features)
        if kind is not KsymKind.UNTYPED:
            reasons.append(because.typed_extern(extern.name, is_function=is_function))
            if not _is_declared_so(obj.btf, extern, name, kind, features):
                if is_function and with_flavors and extern.weak:
                    is_there = False
                else:
                    reasons.append(because.extern_differs(extern.name, is_function=is_function))
        if is_function:
            kfuncs.append((extern.name, is_there))
        if extern.weak or is_there is not False:
            continue
        if is_function:
            reasons.append(because.kfunc_missing(extern.name))
        elif kind is KsymKind.VARIABLE:
            reasons.append(because.ksym_missing(extern.name))
        else:
            reasons.append(because.ksym_unknown(extern.name))
    return FoundKsyms(tuple(reasons), tuple(kfuncs))


def _is_declared_so(btf: Btf, extern: Variable, name: str, kind: int, features: KernelFeatures) -> bool:
    """Whether a typed extern fits what the kernel has of that name; true if the kernel has none."""
    own = btf[extern.type_id]
    there = features.type_of(name, t.Kind.FUNC if kind is KsymKind.FUNCTION else t.Kind.VAR)
    if there is None:
        return True
    try:
        declared, _ = btf.resolve(own.type_id if isinstance(own, t.Func) else extern.type_id)
        there, _ = features.btf.resolve(there)
        budget = Budget(btf.source, len(btf.data), error=RelocationError)
        return Comparison(btf, features.btf, budget).types_are_compatible(declared, there, level=MAX_DEPTH)
    except RelocationError:
        return False


def _is_listed(name: str, features: KernelFeatures) -> bool:
    return features.has_variable(name) or bool(features.has_function(name))


def values_of_externs(
    obj: ObjectModel, kernel: Kernel, features: KernelFeatures, ksyms: FoundKsyms
) -> dict[str, Value]:
    """What a program reads from its externs on this kernel."""
    values: dict[str, Value] = {}
    for extern in obj.kconfig:
        name = extern.name
        value: Value = Settable(frozenset({name}))
        if name == "LINUX_KERNEL_VERSION":
            bounds = version_bounds(kernel)
            if bounds is not None:
                low, high = bounds
                value = low if low == high else Settable(frozenset({name}), low, high)
        elif name == "LINUX_HAS_BPF_COOKIE":
            has_cookie = features.has_helper(GET_ATTACH_COOKIE)
            value = value if has_cookie is None else int(has_cookie)
        values[name] = value
    for extern in obj.ksyms:
        name, kind = extern.name, ksym_kind(obj.btf, extern)
        if kind is KsymKind.FUNCTION:
            values[name] = 0 if ksyms.has_kfunc(name) is False else NON_NULL
        elif kind is KsymKind.VARIABLE:
            values[name] = None if features.has_variable(name) else 0
        else:
            values[name] = NON_NULL if _is_listed(name, features) else Settable(frozenset({name}))
    return values
