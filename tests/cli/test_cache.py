"""`hatch-bpf cache`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from hatch_bpf.support.store import LIMIT, Store
from tests.cli.test_main import run
from tests.common import kernel_images
from tests.common.archive_server import serve

NAMES = ["debian/12/x86_64/6.1.0-1", "debian/12/x86_64/6.1.0-2"]


def test_what_is_there_and_that_it_is_gone(tmp_path: Path) -> None:
    cache, archive = tmp_path / "cache", kernel_images.archive(tmp_path / "served", NAMES)
    environment = {"HATCH_BPF_CACHE": str(cache)}
    with serve(archive) as server:
        (archive / "index.txt").write_text("\n".join(NAMES))
        assert run("kernels", "verify", server.url, env=environment, cwd=tmp_path).returncode == 0
    Store(cache / "results").put("verdicts", "a key", b"data")
    (cache / "results" / "verdicts.txt").write_text("not a result")
    downloaded = [path for path in (cache / "archives").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in downloaded)
    (result,) = [path for path in (cache / "results" / "verdicts").rglob("*") if path.is_file()]

    whole = size + result.stat().st_size

    told = json.loads(run("cache", "info", "--json", env=environment).stdout)
    assert told == {
        "folder": str(cache),
        "kinds": [
            {"kind": "archives", "files": 3, "bytes": size},
            {"kind": "results/verdicts", "files": 1, "bytes": result.stat().st_size},
        ],
        "files": 4,
        "bytes": whole,
        "limit": LIMIT,
    }
    lines = run("cache", "info", env=environment).stdout.splitlines()
    assert lines[0] == str(cache)
    assert [line.split()[0] for line in lines[1:3]] == ["archives", "results/verdicts"]
    assert f"{size:,} bytes" in lines[1]
    assert lines[3].startswith("in all")
    assert f"{LIMIT:,} bytes" in lines[4]

    cleared = run("cache", "clear", env=environment)
    assert cleared.stdout == f"{cache}: 4 files removed, {whole:,} bytes\n"
    assert not downloaded[0].exists()
    assert not result.exists()
    assert json.loads(run("cache", "clear", "--json", env=environment).stdout) == {
        "folder": str(cache), "files": 0, "bytes": 0,
    }  # fmt: skip


def test_a_folder_named_by_mistake_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "home" / "documents").mkdir(parents=True)
    (tmp_path / "home" / "documents" / "mine").write_text("mine")
    (tmp_path / "home" / "archives").mkdir()
    environment = {"HATCH_BPF_CACHE": str(tmp_path / "home")}
    assert json.loads(run("cache", "info", "--json", env=environment).stdout)["bytes"] == 0
    assert run("cache", "clear", env=environment).returncode == 0
    assert (tmp_path / "home" / "documents" / "mine").read_text() == "mine"


def test_no_cache_yet(tmp_path: Path) -> None:
    default_place = {"HATCH_BPF_CACHE": "", "XDG_CACHE_HOME": str(tmp_path)}
    told = run("cache", "info", env=default_place)
    assert (told.returncode, told.stdout.splitlines()[0]) == (0, str(tmp_path / "hatch-bpf"))
    assert run("cache", "clear", env=default_place).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "archives").write_text("a file where a folder should be")
    done = run("cache", "clear", env={"HATCH_BPF_CACHE": str(cache)})
    assert done.returncode == 1
    assert done.stderr == f"hatch-bpf: {cache}/archives/ cannot be removed: Not a directory\n"
