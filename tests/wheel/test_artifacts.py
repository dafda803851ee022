"""What a build made, kept as bytes and had again."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from hatch_bpf.wheel.artifacts import RUNTIME, Artifact, Artifacts, pack, unpack

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1)


@given(
    made=st.lists(st.tuples(NAMES, NAMES, st.binary())),
    told=st.lists(TEXTS),
    read=st.dictionaries(NAMES, TEXTS),
)
def test_artifacts_come_back_as_they_were(
    made: list[tuple[str, str, bytes]], told: list[str], read: dict[str, str]
) -> None:
    own = Artifact(PurePosixPath("demo/_bpf/runtime/maps.py"), PurePosixPath("src/maps.py"), RUNTIME / "maps.py")
    files = [Artifact(PurePosixPath(wheel), PurePosixPath(tree), data) for wheel, tree, data in made]
    artifacts = Artifacts((own, *files), "any", tuple(told), None)
    assert unpack(pack(artifacts, read)) == (artifacts, read)


def test_a_path_that_is_no_text_comes_back() -> None:
    path = "header-\udcff.h"
    artifacts = Artifacts((Artifact(PurePosixPath("a"), PurePosixPath(path), b""),), "any", (), None)
    assert unpack(pack(artifacts, {path: "00"})) == (artifacts, {path: "00"})


def test_what_hatch_bpf_has_itself_is_kept_by_its_place_alone() -> None:
    own = Artifact(PurePosixPath("demo/_bpf/runtime/maps.py"), PurePosixPath("maps.py"), RUNTIME / "maps.py")
    packed = pack(Artifacts((own,), "any", (), None), {})
    assert len(packed) < 100
    assert unpack(packed)[0].files[0].data == Path(RUNTIME / "maps.py").read_bytes()


def test_a_line_with_a_nul_takes_nothing_but_itself_apart() -> None:
    artifacts = Artifacts((Artifact(PurePosixPath("a"), PurePosixPath("b"), b"\0data"),), "any", ("one\0two",), None)
    made, read = unpack(pack(artifacts, {"c": "00"}))
    assert (made.files, read) == (artifacts.files, {"c": "00"})
    assert made.told == ("one", "two")
