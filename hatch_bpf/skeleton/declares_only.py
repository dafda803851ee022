"""The text of a skeleton -> its syntax tree, if all that the text does is declare.

Input: Python source that a template made from names in an object. Output: the tree, or `SkeletonError`. The names were
quoted or made identifiers long before; this is a second lock before anything, even the build, runs the text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hatch_bpf.errors import SkeletonError

_MODULES = frozenset({"_bpf", "_e", "_t"})
"""The names under which a skeleton imports the runtime."""
_BUILTINS = frozenset({"int", "float", "bool", "bytes", "__file__"})
_EXPRESSIONS = (
    ast.Constant, ast.Name, ast.Attribute, ast.Call, ast.keyword, ast.Tuple, ast.List, ast.Dict, ast.Subscript,
    ast.BinOp, ast.Mult, ast.BitOr, ast.UnaryOp, ast.USub, ast.expr_context,
)  # fmt: skip


def parse(text: str, *, source: str) -> ast.Module:
    """Parse a skeleton; `source` is its name in errors. Raises `SkeletonError`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SkeletonError(f"{source}: its skeleton is not Python: {error}") from error
    nodes = list(ast.walk(tree))
    declared = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    declared.update(node.name for node in nodes if isinstance(node, ast.ClassDef))
    known = frozenset(declared) | _MODULES | _BUILTINS
    for statement in tree.body:
        for wrong in _not_declaring(statement, known):
            line = getattr(wrong, "lineno", "?")
            raise SkeletonError(
                f"{source}: line {line} of its skeleton would do more than declare ({type(wrong).__name__}); "
                f"please report this, with the object"
            )
    return tree


def _not_declaring(statement: ast.stmt, known: frozenset[str]) -> Iterator[ast.AST]:
    """The parts of a statement that do not belong in a skeleton."""
    match statement:
        case ast.ImportFrom(module=module, level=level, names=names):
            own = level or module in ("__future__", "hatch_bpf", "hatch_bpf.runtime")
            if not own or any((alias.asname or alias.name) not in (*_MODULES, "annotations") for alias in names):
                yield statement
        case ast.ClassDef(bases=bases, keywords=[], decorator_list=[], body=body):
            for base in bases:
                yield from _not_plain(base, known)
            for inner in body:
                if isinstance(inner, (ast.Assign, ast.AnnAssign, ast.Expr)):
                    yield from _not_declaring(inner, known)
                else:
                    yield inner
        case ast.Assign(targets=[ast.Name()], value=value):
            yield from _not_plain(value, known)
        case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=None):
            yield from _not_plain(annotation, known)
        case ast.Expr(value=ast.Constant()):
            pass
        case _:
            yield statement


def _not_plain(expression: ast.expr, known: frozenset[str]) -> Iterator[ast.AST]:
    """The parts of an expression other than literals, names of the skeleton or runtime, and calls of the runtime."""
    for node in ast.walk(expression):
        is_known = isinstance(node, _EXPRESSIONS)
        if isinstance(node, ast.Name):
            is_known = node.id in known
        elif isinstance(node, ast.Attribute):  # only direct attributes of the runtime's modules
            is_known = isinstance(node.value, ast.Name) and node.value.id in _MODULES and node.attr[:2] != "__"
        elif isinstance(node, ast.Call):
            is_known = isinstance(node.func, ast.Attribute)
        if not is_known:
            yield node
