"""The texts of skeletons that earlier builds made: found again by everything that they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf import pipeline
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.project.config import parse_config
from hatch_bpf.skeleton import generate
from hatch_bpf.support import store, templating
from hatch_bpf.support.store import CACHE_VARIABLE
from tests.common.skeleton_package import BPF, model_of


@pytest.fixture(scope="module")
def sockrtt(tmp_path_factory: pytest.TempPathFactory) -> ObjectModel:
    return model_of(BPF / "sockrtt.bpf.c", tmp_path_factory.mktemp("sockrtt"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are made and not found again."""
    texts, make = list[str](), generate.generate

    def noted(*arguments: Any, **named: Any) -> str:
        texts.append(make(*arguments, **named))
        return texts[-1]

    monkeypatch.setattr(generate, "generate", noted)
    return texts


@dataclass(frozen=True)
class Asked:
    """What a project says, and a change of its object."""

    table: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    def text(self, model: ObjectModel) -> str:
        table = {"archs": ["x86_64"], **self.table}
        config = parse_config(table, key="table", root=Path.cwd(), environ={})
        files = pipeline.skeleton(replace(model, **self.changes), config)
        return next(file.data.decode() for file in files if file.wheel_path.name.endswith("_skel.py"))


def test_the_same_text_is_found_again(sockrtt: ObjectModel, made: list[str]) -> None:
    first = Asked().text(sockrtt)
    assert (Asked().text(sockrtt), len(made)) == (first, 1)


@pytest.mark.parametrize(
    "other",
    [
        Asked({"events": {"rtt_events": "rtt_event"}}),
        Asked({"types": ["rtt_event"]}),
        Asked({"optional": ["watch"]}),
        Asked({"archs": ["arm64"]}),
        Asked(changes={"name": "other"}),
    ],
)
def test_a_text_is_made_anew_for_whatever_is_different(
    other: Asked, sockrtt: ObjectModel, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Asked().text(sockrtt)
    after = other.text(sockrtt)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "another cache"))
    assert made == [before, after]
    assert other.text(sockrtt) == after
    assert len(made) == 3


def test_another_object_gets_a_text_of_its_own(sockrtt: ObjectModel, tmp_path: Path, made: list[str]) -> None:
    before = Asked().text(sockrtt)
    source = (BPF / "sockrtt.bpf.c").read_text().replace("#include", "int one_more;\n#include", 1)
    (tmp_path / "sockrtt.bpf.c").write_text(source)
    assert Asked().text(model_of(tmp_path / "sockrtt.bpf.c", tmp_path)) != before
    assert len(made) == 2


@pytest.fixture
def another_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    changed = tmp_path / "templates" / generate.TEMPLATE
    changed.parent.mkdir()
    changed.write_bytes((templating.FOLDERS[0] / generate.TEMPLATE).read_bytes() + b"# the end\n")
    for cached in (generate._template, store._engine_digest):
        cached.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(templating, "FOLDERS", (changed.parent,))
        yield
    for cached in (generate._template, store._engine_digest):
        cached.cache_clear()


def test_another_template_makes_another_text(sockrtt: ObjectModel, request: pytest.FixtureRequest) -> None:
    before = Asked().text(sockrtt)
    request.getfixturevalue("another_template")
    assert Asked().text(sockrtt) == before + "# the end\n"
