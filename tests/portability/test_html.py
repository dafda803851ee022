"""The portability report as a page: what it says, that names can't break out of it, and that it can be read."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.html import MANY_KERNELS, MANY_PROGRAMS, render_html
from hatch_bpf.portability.verdicts import (
    KernelReport,
    ProgramVerdict,
    Reason,
    ReasonKind,
    Report,
    Verdict,
    Weight,
    decide,
)
from tests.cli.test_main import run
from tests.common import needs
from tests.common.projects import KERNELS, PROGRAM
from tests.compiler.test_clang import compile_text

VOID = {"meta", "input", "wbr", "br", "rect"}
HELPER = Reason(
    ReasonKind.HELPER_MISSING, Weight.FAILS, "this kernel has no bpf_loop()", "use a bounded loop", "src/prog.bpf.c:36"
)
BTF = Reason(ReasonKind.KERNEL_BTF, Weight.KERNEL_BTF, 'SEC("fentry") needs the kernel\'s own BTF')
GLOBAL = Reason(
    ReasonKind.CO_RE_MISSING, Weight.CONDITIONAL, "a.b is not in this kernel", "guard it", "src/prog.bpf.c:7"
)
NEVER = Reason(ReasonKind.ATTACH_TYPE_MISSING, Weight.CANNOT_ATTACH, "it can never be attached", "write another")
NOTE = Reason(ReasonKind.KSYM_UNKNOWN, Weight.NOTE, "kernel symbol x is not in this kernel's BTF")
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "x onmouseover=alert(1) y='",
    "&lt;&amp;&#60;",
    "{{ 7 * 7 }}{% raw %}",
    "naïve_プログラム_🐝",
    "--><!--",
]


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    """All the text in it."""

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    def all(self, tag: str) -> Iterator[Element]:
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.all(tag)

    def by_id(self, name: str) -> Element:
        (found,) = (element for element in self.walk() if element.attributes.get("id") == name)
        return found

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            yield from child.walk()


class Tree(HTMLParser):
    """Elements of a page; knows which end tags a table may leave out, and accepts no other disorder."""

    CLOSED_BY: ClassVar[dict[str, set[str]]] = {
        "td": {"td", "th", "tr", "tbody"},
        "th": {"td", "th", "tr", "tbody"},
        "tr": {"tr", "tbody"},
        "thead": {"tbody"},
        "tbody": {"tbody"},
    }

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root], [element.tag for element in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), attrs
        while tag in self.CLOSED_BY.get(self.open[-1].tag, set()):
            self.open.pop()
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        while self.open[-1].tag != tag and self.open[-1].tag in self.CLOSED_BY:
            self.open.pop()
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.parts.append(data)


def parse(page: str) -> Element:
    return Tree(page).root


def verdict_of(*reasons: Reason, program: str = "prog", path: str = "build/prog.bpf.o") -> ProgramVerdict:
    verdict, ordered = decide(list(reasons))
    return ProgramVerdict(path, program, verdict, ordered)


def make_report(*, programs: int = 3, kernels: int = 6) -> Report:
    """All verdicts, in a pattern that is another in every column."""
    outcomes = [(), (HELPER, NOTE), (BTF,), (GLOBAL,), (NOTE,)]
    return Report(
        tuple(
            KernelReport(
                Kernel("debian", str(11 + index // 4), ("x86_64", "arm64")[index % 2], f"6.1.0-{index}-amd64"),
                tuple(
                    verdict_of(*outcomes[(index * (number + 1) + number) % 5], program=f"prog{number}")
                    for number in range(programs)
                ),
            )
            for index in range(kernels)
        )
    )


def rows_of(page: Element) -> dict[str, list[Element]]:
    """Kernel -> the cells of its row."""
    rows = {}
    for body in page.by_id("matrix").all("tbody"):
        for row in body.all("tr"):
            if "g" not in row.classes:
                head, *cells = row.children
                release, arch = head.text.split(" ")
                rows[f"{body.attributes['data-folder']}/{arch}/{release}"] = cells
    return rows


def test_the_matrix_says_what_the_report_says() -> None:
    report = make_report()
    page = parse(render_html(report))
    heads = [cell.text for cell in next(page.by_id("matrix").all("thead")).all("th")]
    assert heads == ["Kernel", "prog.prog0", "prog.prog1", "prog.prog2"]
    rows = rows_of(page)
    assert list(rows) == [str(kernel.kernel) for kernel in sorted(report.kernels, key=lambda found: found.kernel)]
    for kernel in report.kernels:
        said = [cell.text for cell in rows[str(kernel.kernel)]]
        assert said == [program.verdict.value for program in kernel.programs]


def test_a_cell_leads_to_its_reasons() -> None:
    report = make_report()
    page = parse(render_html(report))
    rows = rows_of(page)
    for kernel in report.kernels:
        for program, cell in zip(kernel.programs, rows[str(kernel.kernel)], strict=True):
            links = [link.attributes["href"] for link in cell.all("a")]
            assert len(links) == bool(program.reasons)
            if not links:
                continue
            finding = page.by_id(links[0].removeprefix("#"))
            assert program.verdict.value in next(finding.all("h4")).text
            for reason in program.reasons:
                assert reason.what in finding.text
                assert reason.remedy in finding.text
                assert reason.source in finding.text
            assert kernel.kernel.release in next(finding.all("dl")).text
            assert ("from the option `kernels`" in finding.text) == program.verdict.is_failure


def test_kernels_share_reasons_and_are_told_in_ranges() -> None:
    kernels = [Kernel("debian", "12", "x86_64", f"6.1.0-{n}-amd64") for n in range(1, 21)]
    outcomes = [verdict_of(HELPER) if n not in (4, 18, 19) else verdict_of() for n in range(20)]
    report = Report(tuple(KernelReport(kernel, (found,)) for kernel, found in zip(kernels, outcomes, strict=True)))
    page = parse(render_html(report))
    (finding,) = page.all("article")
    assert "on 17 of 20 kernels" in finding.text
    assert [item.text for item in finding.all("dd")] == [
        "6.1.0-1-amd64 to 6.1.0-4-amd64 (4)",
        "6.1.0-6-amd64 to 6.1.0-18-amd64 (13)",
    ]


def test_lines_of_a_file_stand_together() -> None:
    lines = [replace(HELPER, source=f"src/prog.bpf.c:{line}") for line in (120, 36, 36, 7)]
    report = Report((KernelReport(Kernel("debian", "12", "x86_64", "6.1.0"), (verdict_of(*lines),)),))
    page = parse(render_html(report))
    (finding,) = page.all("article")
    assert finding.text.count(HELPER.what) == 1
    assert [code.text for code in finding.all("code")] == ["src/prog.bpf.c:7, 36, 120"]


def test_counts_add_up() -> None:
    report = make_report()
    pairs = [program.verdict for kernel in report.kernels for program in kernel.programs]
    page = parse(render_html(report))
    (counts,) = (element for element in page.all("ul") if "counts" in element.classes)
    for item in counts.all("li"):
        word, number, _ = (part.text for part in item.all("p"))
        assert int(number.split()[0]) == pairs.count(Verdict(word.split()[-1]))
    tally = next(table for table in page.all("table") if "tally" in table.classes)
    for row in list(tally.all("tr"))[1:]:
        numbers = [int(cell.text) for cell in row.all("td") if "n" in cell.classes]
        assert sum(numbers) == len(report.kernels)


def test_a_group_shows_its_worst_verdict_and_how_many_have_it() -> None:
    report = make_report(programs=1, kernels=4)
    page = parse(render_html(report))
    (group,) = (row for row in page.by_id("matrix").all("tr") if "g" in row.classes)
    assert [cell.text for cell in group.all("td")] == ["fails1 of 4"]


def test_the_project_is_named_with_its_version() -> None:
    page = parse(render_html(make_report(), project="tcprtt 1.2"))
    assert next(page.all("strong")).text == "tcprtt 1.2"
    assert "tcprtt 1.2" in next(page.all("title")).text
    assert not list(parse(render_html(make_report())).all("strong"))


def test_packages_and_architectures_that_differ() -> None:
    """One row for a kernel that was checked for two packages, a column each for objects of one name, a gap where one
    isn't built."""
    amd, arm = Kernel("debian", "12", "x86_64", "6.1.0-1"), Kernel("debian", "12", "arm64", "6.1.0-1")
    one, other = verdict_of(), verdict_of(HELPER)
    report = Report((KernelReport(amd, (one,)), KernelReport(arm, (one,)), KernelReport(amd, (other,))))
    rows = {kernel: [cell.text for cell in cells] for kernel, cells in rows_of(parse(render_html(report))).items()}
    assert rows == {str(amd): ["loads", "fails"], str(arm): ["loads", ""]}


def test_a_group_of_kernels_without_a_program_has_gaps() -> None:
    amd, arm = Kernel("debian", "12", "x86_64", "6.1.0-1"), Kernel("debian", "13", "arm64", "6.12.0-1")
    one, other = verdict_of(program="one"), verdict_of(program="other")
    page = parse(render_html(Report((KernelReport(amd, (one,)), KernelReport(arm, (other,))))))
    groups = [row for row in page.by_id("matrix").all("tr") if "g" in row.classes]
    assert [[cell.text for cell in group.all("td")] for group in groups] == [["loads", ""], ["", "loads"]]


@pytest.mark.parametrize(
    ("failing", "shown"), [(1, "less than 1 %"), (2, "1 %"), (299, "more than 99 %"), (300, "100 %")]
)
def test_a_share_is_not_rounded_to_none_or_all(failing: int, shown: str) -> None:
    report = Report(
        tuple(
            KernelReport(Kernel("debian", "12", "x86_64", f"6.1.0-{n}"), (verdict_of(*[HELPER] * (n < failing)),))
            for n in range(300)
        )
    )
    page = parse(render_html(report))
    (counts,) = (element for element in page.all("ul") if "counts" in element.classes)
    (share,) = (item.text for item in counts.all("li") if "fails" in item.text)
    assert shown in share


def test_a_program_that_may_fail_is_not_said_to_load() -> None:
    report = Report((KernelReport(Kernel("debian", "12", "x86_64", "6.1.0-1"), (verdict_of(GLOBAL),)),))
    assert next(parse(render_html(report)).all("h1")).text == "No program fails on any kernel"


@pytest.mark.parametrize(
    ("reasons", "headline"),
    [
        ([[NEVER]], "1 program cannot be attached on at least one kernel"),
        ([[NEVER], [NEVER, HELPER]], "1 program fails and 1 program cannot be attached on at least one kernel"),
        (
            [[HELPER], [HELPER], [NEVER], [NEVER]],
            "2 programs fail and 2 programs cannot be attached on at least one kernel",
        ),
    ],
)
def test_the_headline_keeps_apart_what_fails_and_what_cannot_be_attached(
    reasons: list[list[Reason]], headline: str
) -> None:
    programs = tuple(replace(verdict_of(*each), program=f"p{number}") for number, each in enumerate(reasons))
    page = parse(render_html(Report((KernelReport(Kernel("debian", "12", "x86_64", "6.1.0-1"), programs),))))
    assert next(page.all("h1")).text == headline
    cells = [cell for cell in page.by_id("matrix").all("td") if cell.text == "cannot-attach"]
    assert cells
    assert all("a" in cell.classes for cell in cells)


def test_an_optional_program_is_marked_and_no_headline() -> None:
    found = replace(verdict_of(HELPER), is_optional=True)
    report = Report((KernelReport(Kernel("debian", "12", "x86_64", "6.1.0-1"), (found,)),))
    page = parse(render_html(report))
    assert [cell.text for cell in page.by_id("matrix").all("th")][1] == "prog.prog optional"
    assert next(page.all("h1")).text == "No program fails on any kernel but optional ones"


@pytest.mark.parametrize("report", [Report(()), Report((KernelReport(Kernel("", "", "arm64", "6.1"), ()),))])
def test_a_report_about_nothing_is_a_page_too(report: Report) -> None:
    page = parse(render_html(report))
    assert "There is nothing to check" in next(page.all("main")).text


def named(name: str) -> Report:
    """A report with a name in every place that an object or an archive can put one."""
    reason = Reason(ReasonKind.CO_RE_MISSING, Weight.FAILS, f"{name} is not in this kernel", name, f"{name}.c:3")
    as_folder = name.replace("/", "")
    kernel = Kernel(as_folder, as_folder, "x86_64", f"{as_folder}-1")
    return Report((KernelReport(kernel, (verdict_of(reason, program=name, path=f"{name}.bpf.o"),)),))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out(name: str) -> None:
    page, tame = parse(render_html(named(name))), parse(render_html(named("tame")))
    shapes = [[(element.tag, *element.attributes) for element in tree.walk()] for tree in (page, tame)]
    assert shapes[0] == shapes[1]
    assert next(page.all("h3")).text.endswith(f".{name}")
    assert f"{name} is not in this kernel" in next(page.all("article")).text


def test_a_64_kb_name_is_shown_without_filling_the_page() -> None:
    name = "x" * 65536
    report = make_report(programs=12, kernels=30)
    kernels = tuple(
        replace(kernel, programs=(replace(kernel.programs[0], program=name), *kernel.programs[1:]))
        for kernel in report.kernels
    )
    page = render_html(Report(kernels))
    assert f"prog.{name}" in [head.text for head in parse(page).all("h3")]
    assert len(page) < 400_000


def test_what_does_not_print_is_spelled_out() -> None:
    name = "a\x00b\x1b[31m\u202egnp\udcff\n"
    report = Report((KernelReport(Kernel("debian", "12", "arm64", "6.1"), (verdict_of(HELPER, program=name),)),))
    page = render_html(report)
    page.encode()
    assert next(parse(page).all("h3")).text == r"prog.a\x00b\x1b[31m\u202egnp\udcff\n"


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = render_html(make_report(programs=MANY_PROGRAMS + 1))
    page = parse(text)
    for element in page.walk():
        assert element.tag not in ("link", "img", "iframe", "object", "embed", "base", "video", "audio"), element.tag
        assert "src" not in element.attributes
        assert "style" not in element.attributes
        assert element.attributes.get("href", "#").startswith("#")
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import|@font-face|fetch\(|XMLHttpRequest|WebSocket", text)


def test_the_policy_allows_this_style_and_script_alone() -> None:
    text = render_html(make_report())
    page = parse(text)
    (policy,) = (
        meta.attributes["content"]
        for meta in page.all("meta")
        if "content-security-policy" in str(meta.attributes).lower()
    )
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_links_lead_somewhere_and_ids_are_unique() -> None:
    page = parse(render_html(make_report(programs=20, kernels=40)))
    ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.walk():
        for attribute in ("href", "aria-labelledby"):
            if attribute in element.attributes:
                assert element.attributes[attribute].removeprefix("#") in ids


def test_tables_are_announced() -> None:
    page = parse(render_html(make_report()))
    assert page.children[0].attributes == {"lang": "en"}
    tables = list(page.all("table"))
    assert len(tables) == 2
    for table in tables:
        assert next(table.all("caption")).text
        assert {cell.attributes.get("scope") for cell in table.all("th")} <= {"col", "row", "rowgroup"}
        width = {len(row.children) for row in table.all("tr")}
        assert len(width) == 1
    for element in page.walk():
        if "scroll" in element.classes:
            assert (element.attributes["tabindex"], element.attributes["role"]) == ("0", "region")
            assert element.attributes["aria-label"]
    levels = [int(element.tag[1]) for element in page.walk() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_same_report_same_bytes() -> None:
    report = make_report(programs=9, kernels=30)
    kernels = list(report.kernels)
    random.Random(1).shuffle(kernels)
    assert render_html(report) == render_html(report) == render_html(Report(tuple(kernels)))


def test_two_thousand_kernels_and_twenty_programs_are_under_5_mb() -> None:
    report = make_report(programs=20, kernels=2000)
    text = render_html(report)
    assert len(text.encode()) < 5_000_000
    distinct = {program for kernel in report.kernels for program in kernel.programs if program.reasons}
    assert text.count("<article ") == len(distinct)
    assert text.count("<th scope=row>") == 2000
    assert "<td class=l><a href=#f" in text
    assert '<input type="checkbox" checked>' not in text
    few = parse(render_html(make_report(kernels=MANY_KERNELS)))
    assert all("checked" in box.attributes for box in few.by_id("matrix").all("input"))


# --- colours --------------------------------------------------------------------------------------------------------


def style_sheet() -> str:
    (style,) = re.findall(r"<style>(.*?)</style>", render_html(make_report()), re.DOTALL)
    return re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root\s*{(.*?)}", style_sheet(), re.DOTALL)
    colours = [dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6})", text)) for text in (light, dark)]
    assert set(colours[0]) == set(colours[1])
    return {"light": colours[0], "dark": {**colours[0], **colours[1]}}


def text_pairs() -> set[tuple[str, str]]:
    """Every colour of text with what it may stand on: the background of its rule, or else those of the page."""
    pairs = set()
    for _, body in re.findall(r"([^{}]+){([^{}]*)}", style_sheet()):
        declarations = dict(re.findall(r"(?:^|;)\s*([a-z-]+):\s*([^;]+)", body))
        ink = re.fullmatch(r"var\((--[\w-]+)\)", declarations.get("color", "").strip())
        if not ink:
            continue
        ground = re.search(
            r"var\((--[\w-]+)\)", declarations.get("background", "") + declarations.get("background-color", "")
        )
        for on in [ground[1]] if ground else ["--paper", "--card"]:
            pairs.add((ink[1], on))
    return pairs


def test_the_style_sheet_has_colours_only_as_variables() -> None:
    rules = re.sub(r":root\s*{.*?}", "", style_sheet(), flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{3,8}\b(?=[^{}]*})", rules)
    used = set(re.findall(r"var\((--[\w-]+)\)", rules))
    assert used == set(re.findall(r"(--[\w-]+):", style_sheet()))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(theme: str) -> None:
    colours = themes()[theme]
    pairs = text_pairs()
    assert {
        ("--f-ink", "--f"),
        ("--a-ink", "--a"),
        ("--c-ink", "--c"),
        ("--b-ink", "--b"),
        ("--l-ink", "--l"),
        ("--soft", "--paper"),
    } <= pairs
    poor = {
        (ink, on): round(contrast(colours[ink], colours[on]), 2)
        for ink, on in pairs
        if not ink.endswith("-ink") or on not in ("--paper", "--card")
        if contrast(colours[ink], colours[on]) < 4.5
    }
    assert not poor


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_focus_ring_and_bars_stand_out(theme: str) -> None:
    """3:1, which WCAG asks of what is no text; bars go with numbers and so carry nothing alone, but are to be seen."""
    colours = themes()[theme]
    for ground in ("--paper", "--card"):
        assert contrast(colours["--focus"], colours[ground]) >= 3
        for bar in ("--f", "--fill-a", "--fill-c", "--fill-b", "--fill-l"):
            assert contrast(colours[bar], colours[ground]) >= 1.9


def test_the_style_sheet_serves_phones_the_dark_paper_and_who_dislikes_motion() -> None:
    style = style_sheet()
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    assert "@media (max-width:" in style
    assert ":focus-visible" in style
    still, moving = style.split("@media (prefers-reduced-motion: no-preference)")
    assert not re.search(r"\b(animation|transition|scroll-behavior):", still + moving.split("@media", 1)[1])


# --- the command, and a browser -------------------------------------------------------------------------------------


def test_check_writes_the_page_besides_what_it_prints(tmp_path: Path) -> None:
    program = tmp_path / "prog.bpf.o"
    program.write_bytes(compile_text(tmp_path / "compiled", PROGRAM).data)
    arguments = ("check", program, "--kernels", KERNELS, "--match", "debian/12/x86_64/*")
    done = run(*arguments, "--json", "--html", tmp_path / "report.html")
    assert (done.returncode, done.stderr) == (0, "")
    kernels = [kernel["kernel"] for kernel in json.loads(done.stdout)["kernels"]]
    assert list(rows_of(parse((tmp_path / "report.html").read_text()))) == kernels
    done = run(*arguments, "--html", tmp_path / "no" / "such" / "folder.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert "folder.html cannot be written" in done.stderr


def dump(path: Path) -> str:
    """A page as Chromium has it once it is loaded and its scripts are done."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += [f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    command = [needs.optional_tool("chromium"), *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def browse(page: str, folder: Path, script: str) -> str:
    """The text that a script comes to in the page, after the page's own, in Chromium."""
    # the policy would keep the script of this test from running, as it should
    policy = "".join(re.findall(r'<meta http-equiv="Content-Security-Policy"[^>]*>', page))
    told = f"<script>(async () => {{ {script} }})().then((said) => {{ document.title = `said:${{said}}`; }});</script>"
    path = folder / "page.html"
    path.write_text(page.replace(policy or "no policy", "").replace("</body>", told + "</body>"))
    dumped = dump(path)
    (said,) = re.findall(r"<title>said:(.*?)</title>", dumped, re.DOTALL)
    return str(said)


SHOWN = """
const form = document.getElementById("filter");
const settled = () => new Promise((done) => setTimeout(done, 100));
const set = (name, value) => {
  form.elements[name].value = value;
  form.dispatchEvent(new Event("input", { bubbles: true }));
  return settled();
};
const isSeen = (element) => element.getClientRects().length > 0;
const matrix = document.getElementById("matrix");
const seen = () => [
  [...matrix.querySelectorAll("tbody tr:not(.g) > th")].filter(isSeen).length,
  [...matrix.tHead.rows[0].cells].slice(1).filter(isSeen).length,
].join("x");
"""


def test_filters_in_a_browser(tmp_path: Path) -> None:
    report = make_report(programs=12, kernels=20)
    said = browse(
        render_html(report),
        tmp_path,
        SHOWN
        + """
        const said = [form.hidden, seen()];
        await set("arch", "arm64"); said.push(seen()); await set("arch", "");
        await set("program", "prog1"); said.push(seen()); await set("program", "");
        await set("kernel", "debian/13 x86"); said.push(seen()); await set("kernel", "");
        await set("verdict", "c"); said.push(seen()); form.reset(); await settled(); said.push(seen());
        document.getElementById("fold").click(); said.push(seen());
        return said.join(" ");""",
    )
    conditional = [[program.verdict is Verdict.CONDITIONAL for program in kernel.programs] for kernel in report.kernels]
    rows, columns = sum(map(any, conditional)), sum(map(any, zip(*conditional, strict=True)))
    assert said == f"false 20x12 10x12 20x3 2x12 {rows}x{columns} 20x12 0x12"


def test_a_click_shows_the_reasons_in_a_browser(tmp_path: Path) -> None:
    report = Report((KernelReport(Kernel("debian", "12", "arm64", "6.1.0-1"), (verdict_of(HELPER),)),))
    said = browse(
        render_html(report),
        tmp_path,
        """document.querySelector("#matrix td a").click();
        const why = document.getElementById("why");
        return `${why.open} ${why.textContent}`;""",
    )
    assert said.startswith("true")
    for part in ("debian/12/arm64/6.1.0-1", HELPER.what, HELPER.remedy, "prog.bpf.c:36"):
        assert part in said


@pytest.mark.parametrize("name", ["prog", "a_program_with_a_very_long_name_" * 3])
def test_the_page_fits_a_phone(name: str, tmp_path: Path) -> None:
    """Nothing is wider than the screen but what scrolls by itself."""
    kernels = [Kernel("debian", "12", "x86_64", f"6.1.0-{n}-with-a-long-name-of-a-release-amd64") for n in range(9)]
    reason = replace(HELPER, source=f"src/{name}/{name}.bpf.c:36")
    found = tuple(verdict_of(reason, NOTE, program=f"{name}{n}", path=f"build/{name}.bpf.o") for n in range(3))
    report = Report(tuple(KernelReport(kernel, found) for kernel in kernels))
    page = html.escape(render_html(report, project=f"{name} 1.0"))
    # a window is not so narrow, but a frame is
    size = "width: 360px; height: 800px; border: 0"
    frame = f'<!doctype html><body><iframe style="{size}" srcdoc="{page}"></iframe></body>'
    said = browse(
        frame,
        tmp_path,
        """await new Promise((loaded) => { window.onload = loaded; });
        const { contentDocument: page, contentWindow: phone } = document.querySelector("iframe");
        for (const fold of page.querySelectorAll("details")) fold.open = true;
        const wide = [...page.querySelectorAll("body *")].filter((element) =>
          !element.closest(".scroll, dialog, .skip, legend") &&
          element.getBoundingClientRect().right > phone.innerWidth + 1);
        const tally = page.querySelector(".tally").parentNode;
        if (tally.scrollWidth > tally.clientWidth) wide.push(tally);
        return [phone.innerWidth, page.documentElement.scrollWidth <= phone.innerWidth,
          ...wide.map((element) => `${element.tagName} ${element.className}`)].join();""",
    )
    assert said == "360,true"


def test_the_page_runs_its_own_script_and_nothing_in_names(tmp_path: Path) -> None:
    """With its own policy in force, and hostile names all over it."""
    reason = replace(HELPER, what="<img src=x onerror=\"document.title='broken'\">")
    found = verdict_of(reason, program="</title><script>document.title='broken'</script>")
    path = tmp_path / "page.html"
    path.write_text(render_html(Report((KernelReport(Kernel("debian", "12", "arm64", "6.1.0-1"), (found,)),))))
    dumped = dump(path)
    assert "<title>1 program fails on at least one kernel" in dumped
    assert 'id="filter" autocomplete' in dumped, "the page's own script should have shown the filters"


@pytest.mark.skipif(not os.environ.get("HATCH_BPF_FULL"), reason="40,000 cells: only with HATCH_BPF_FULL=1")
def test_two_thousand_kernels_and_twenty_programs_stay_usable_in_a_browser(tmp_path: Path) -> None:
    """40,000 cells unfolded, filtered down, cleared, and one clicked: each step shows what it should."""
    report = make_report(programs=20, kernels=2000)
    said = browse(
        render_html(report),
        tmp_path,
        SHOWN
        + """
        const said = [seen()];
        document.getElementById("fold").click(); said.push(seen());
        await set("program", "prog17"); said.push(seen()); await set("program", "");
        await set("kernel", "debian/12 x86 6.1.0-4"); said.push(seen()); await set("kernel", ""); said.push(seen());
        const cell = matrix.querySelector("tbody tr:not(.g) td.f a"); cell.click();
        said.push(document.getElementById("why").open);
        return said.join(" ");""",
    )
    assert said == "0x20 2000x20 2000x1 21x20 2000x20 true"
