"""The store of results: whole or not there, within bounds, and never in the way of a build."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from hatch_bpf.support.store import RESULTS, Store, Usage, cache_dir, clear, usage


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get("kind", "key") is None
    store.put("kind", "key", b"data")
    store.put("kind", "other", b"")
    store.put("kind", "key", b"newer")
    assert store.get("kind", "key") == b"newer"
    assert store.get("kind", "other") == b""
    assert store.get("another kind", "key") is None


def entry(folder: Path) -> Path:
    (found,) = (path for path in folder.rglob("*") if path.is_file())
    return found


@pytest.mark.parametrize("at", [0, 31, 32, 40])
def test_a_flipped_bit_is_noticed(tmp_path: Path, at: int) -> None:
    store = Store(tmp_path)
    store.put("kind", "key", b"0123456789")
    damaged = bytearray(entry(tmp_path).read_bytes())
    damaged[at] ^= 1
    entry(tmp_path).write_bytes(damaged)
    assert store.get("kind", "key") is None
    # and it is gone, so that the next result can take its place
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 10, 32, 41])
def test_a_cut_off_result_is_noticed(tmp_path: Path, size: int) -> None:
    store = Store(tmp_path)
    store.put("kind", "key", b"0123456789")
    os.truncate(entry(tmp_path), size)
    assert store.get("kind", "key") is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for age, key in enumerate(("newest", "newer", "old", "oldest")):
        store.put("kind", key, bytes(1000))
        path = store._path("kind", key)
        os.utime(path, (time.time() - 7200 * (age + 1),) * 2)
    assert store.get("kind", "oldest")  # which makes it the newest
    store.prune(limit=2500)
    assert [key for key in ("newest", "newer", "old", "oldest") if store.get("kind", key)] == ["newest", "oldest"]


def test_what_an_interrupted_write_left_goes_after_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("kind", "key", b"data")
    fresh, stale = entry(tmp_path).parent / ".new-1", entry(tmp_path).parent / ".new-2"
    for path in (fresh, stale):
        path.write_bytes(b"half")
    os.utime(stale, (time.time() - 100_000,) * 2)
    store.prune()
    assert fresh.exists()
    assert not stale.exists()
    assert store.get("kind", "key") == b"data"


@pytest.mark.parametrize("place", ["file/below", "/proc/no/such", os.devnull])
def test_a_place_where_nothing_can_be_kept_is_no_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / place)
    store.put("kind", "key", b"data")
    assert store.get("kind", "key") is None
    store.prune()


def _write_and_read(folder: str) -> int:
    store = Store(Path(folder))
    wrong = 0
    for turn in range(200):
        key = str(turn % 7)
        store.put("kind", key, key.encode() * 5000)
        wrong += store.get("kind", key) not in (None, key.encode() * 5000)
        if turn % 50 == 0:
            store.prune(limit=20_000)
    return wrong


def test_many_processes_may_use_it_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        assert list(pool.map(_write_and_read, [str(tmp_path)] * 4)) == [0] * 4


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"HATCH_BPF_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/hatch-bpf"),
        ({"HOME": "/h"}, "/h/Library/Caches/hatch-bpf" if sys.platform == "darwin" else "/h/.cache/hatch-bpf"),
    ],
)
def test_the_environment_says_where_the_cache_is(
    environ: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HATCH_BPF_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(place)


def test_use_is_told_by_kind_and_cleared(tmp_path: Path) -> None:
    Store(tmp_path / RESULTS).put("kind", "key", bytes(68))
    (tmp_path / "archives" / "host").mkdir(parents=True)
    (tmp_path / "archives" / "host" / "file").write_bytes(bytes(7))
    assert usage(tmp_path) == (Usage("archives", 1, 7), Usage("results/kind", 1, 100))
    clear(tmp_path)
    assert usage(tmp_path) == ()
    assert usage(tmp_path / "not there") == ()


def test_a_clear_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    Store(tmp_path / RESULTS).put("kind", "key", bytes(68))
    (tmp_path / RESULTS).rename(tmp_path / ".results-abcdefgh")
    (tmp_path / "somebody else's").mkdir()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["somebody else's"]
    clear(tmp_path / "not there")


def test_clearing_beside_builds(tmp_path: Path) -> None:
    """Neither the processes that write and read nor those that clear see an error."""
    with ProcessPoolExecutor(4) as pool:
        writers = [pool.submit(_write_and_read, str(tmp_path / RESULTS)) for _ in range(2)]
        clearers = [pool.submit(_clear_often, str(tmp_path)) for _ in range(2)]
        assert [writer.result() for writer in writers] == [0, 0]
        assert [clearer.result() for clearer in clearers] == [None, None]
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _clear_often(folder: str) -> None:
    for _ in range(100):
        clear(Path(folder))
