"""A stand-in for qemu that says what a test wants, for what no real kernel does on demand."""

from __future__ import annotations

import lzma
import os
import sys
from pathlib import Path

import pytest

from tests.common import kernel_images

SCRIPT = """\
#!{python} -S
import json, os, re, sys, time
initramfs = open(sys.argv[sys.argv.index("-initrd") + 1], "rb").read()
plan = json.loads(re.search(rb'{{"mark": .*?}}}}(?=.*TRAILER)', initramfs, re.S)[0].split(b"\\0")[0])
def say(**record):
    print("\\n" + plan["mark"] + json.dumps(record), flush=True)
def load(happened="loads", **more):
    for way in ("own", "hidden"):
        for item in plan["objects"]:
            for program in item["programs"]:
                say(way=way, object=item["name"], program=program["name"], happened=happened, **more)
{body}
"""


def install(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make it the first qemu on PATH, which is returned. `body` is Python that may call `say()` and `load()`."""
    folder.mkdir(exist_ok=True)
    path = folder / "qemu-system-x86_64"
    path.write_text(SCRIPT.format(python=sys.executable, body=body))
    path.chmod(0o755)
    whole = f"{folder}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", whole)
    return whole


def bzimage() -> bytes:
    """An x86_64 image without BTF."""
    return kernel_images.bz_image(lzma.compress(b"no BTF"))


def arm64_image() -> bytes:
    """The start of an arm64 image, as far as it tells what it is."""
    image = bytearray(0x250)
    image[0x38:0x3C] = b"ARM\x64"
    return bytes(image)
