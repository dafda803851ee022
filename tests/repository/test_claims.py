"""What README.md and SECURITY.md promise, sentence by sentence, and the tests that hold it.

A new sentence of the README has to be entered here, and so has a new row of SECURITY.md's table of threats. A sentence
has no test if it promises nothing that can be tested: what a reader may do, what others do, what hatch-bpf cannot do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache

import pytest

from tests.common.projects import REPOSITORY

README = {
    "A build plugin that makes": (),
    "Write `foo.bpf.c`, list": (
        "test_hatch_plugin::test_every_kernel_is_there_and_each_btf_once",
        "system/test_example::test_the_figures_of_publishing_are_about_right",
    ),
    "Both work on a fresh machine": ("repository/test_setup::test_what_is_missing_is_named_and_installed",),
    "The demo builds": ("system/test_example::test_the_demo_without_root_says_what_it_could_not_show",),
    "It does so twice": (
        "system/test_example::test_with_the_kernels_own_btf",
        "system/test_example::test_without_the_kernels_btf",
    ),
    "Start a new package with": (
        "cli/test_scaffold::test_the_package_works",
        "repository/test_readme::test_the_commands_exist",
    ),
    "With setuptools, the same options": ("test_setuptools_plugin::test_both_layouts",),
    "Every build tells you": (
        "cli/test_main::test_what_an_unportable_program_does_to_a_build",
        "cli/test_main::test_a_build_of_many_programs_says_how_many",
    ),
    "So does a command": ("cli/test_main::test_check_in_a_project_uses_its_matrix",),
    "No kernel is booted": (
        "core_relo/test_resolve::test_every_relocation_of_real_objects_comes_out_as_in_libbpf",
        "portability/test_object_check::test_the_running_kernel_agrees",
    ),
    "The same report as a page": ("portability/test_html::test_check_writes_the_page_besides_what_it_prints",),
    "`tcprtt.bpf.c` becomes": ("system/test_example::test_the_readmes_code_runs",),
    "Each phase has its own type": (
        "skeleton/test_generate::test_mypy_knows_what_is_there",
        "skeleton/test_generate::test_mypy_knows_what_is_not_there",
        "skeleton/test_pyright::test_pyright_knows_what_is_there_and_what_is_not",
    ),
    "The installed package depends on": (
        "runtime/test_imports::test_a_skeleton_imports_with_nothing_else_installed",
        "wheel/test_bundled_libbpf::test_it_loads_where_the_system_has_no_libbpf",
    ),
    "Its runtime is plain Python": (
        "runtime/test_imports::test_only_the_standard_library_is_imported",
        "system/test_privileges::test_the_capabilities_of_the_table_are_enough_and_none_too_many",
    ),
    "The file that you pass to": (
        "system/test_example::test_an_explicit_btf_comes_first",
        "system/test_example::test_with_the_kernels_own_btf",
        "system/test_example::test_without_the_kernels_btf",
    ),
    "Never a near match": ("system/test_example::test_a_kernel_that_is_not_in_the_wheel",),
    "To read the code": ("repository/test_docs::test_every_module_has_its_place_in_the_rooms",),
    "A wheel carries libbpf for": ("wheel/test_bundled_libbpf::test_an_architecture_that_there_is_no_library_for",),
    "For other architectures": (
        "system/test_example::test_no_libbpf",
        "runtime/test_old_libbpf::test_sections_that_came_later",
    ),
    "Objects of either byte order": ("objects/test_model::test_big_endian",),
    "An embedded BTF does not serve": ("system/test_seeds::test_check_says_that_fentry_needs_the_kernels_btf",),
    "`hatch-bpf check` names them": ("system/test_seeds::test_check_says_that_fentry_needs_the_kernels_btf",),
    "A verdict is about": (),
    "Whether the verifier accepts": (),
    "`hatch-bpf try` asks it": ("lab/test_trying::test_what_happened_is_told",),
}

THREATS = {
    "the server of the BTF archive, or anyone between": (
        "kernels/remote/test_archive_url::test_https_does_not_redirect_to_http",
        "kernels/remote/test_archive_url::test_redirects_that_are_not_followed",
        "kernels/test_lock::test_another_btf_is_refused",
    ),
    "the same, with an archive's file": ("kernels/test_archive::test_bad_tars", "kernels/test_archive::test_a_bomb"),
    "the same, with its index": ("kernels/remote/test_archive_url::test_a_list_names_only_what_a_url_can_serve",),
    "the author of a kernel's BTF": (
        "repository/test_fuzz::test_a_hostile_btf_of_10_mb_costs_little",
        "repository/test_fuzz::test_mutations_are_refused_or_taken",
    ),
    "the author of a `.deb`, `.rpm`, `vmlinuz` or `vmlinux`": (
        "repository/test_fuzz::test_a_forged_file_costs_little",
        "kernels/formats/test_packages::test_damage_is_our_error_or_nothing",
        "kernels/formats/test_kernel_file::test_damage_is_our_error_or_a_btf",
    ),
    "the author of a BPF object": (
        "skeleton/test_generate::test_identifiers_are_identifiers",
        "skeleton/test_declares_only::test_more_than_declarations_is_refused",
    ),
    "the same": ("objects/test_bounds::test_many_of_what_objects_have_a_few_of",),
    "anyone who names files in the project": (
        "compiler/test_clang::test_the_name_of_a_source_is_never_an_option",
        "compiler/test_clang::test_the_name_of_a_source_is_never_a_list_of_options",
        "repository/test_no_shell::test_nothing_runs_what_a_string_says",
    ),
    "anyone who sets the environment of a build": (
        "compiler/test_toolchain::test_little_of_the_environment_reaches_the_compiler",
    ),
    "anyone who changes built files in an sdist": (
        "test_hatch_plugin::test_what_does_not_fit_is_built_anew_or_refused",
        "test_hatch_plugin::test_a_record_that_does_not_fit",
    ),
    "anyone who damages the cache": (
        "system/test_faults::test_a_flipped_bit_in_the_cache_is_noticed",
        "system/test_faults::test_every_damage_to_an_entry_is_noticed",
        "kernels/remote/test_archive_url::test_what_is_spoiled_in_the_cache_is_downloaded_anew",
    ),
    "anyone who changes files of an installed package": (
        "runtime/test_swapped_files::test_objects_and_btfs_that_are_swapped_after_their_check",
        "runtime/test_swapped_files::test_libraries_that_are_swapped_after_their_check",
        "runtime/test_libbpf_path::test_no_list_that_the_skeleton_does_not_vouch_for",
        "wheel/test_bundled_libbpf::test_a_library_that_was_changed_is_not_loaded",
    ),
}
"""By the first cell of a row, in the table's order."""

SECURITY = {
    "A build that is killed at any moment": (
        "system/test_faults::test_a_build_that_is_killed_leaves_nothing_half_written",
        "system/test_faults::test_a_tree_that_is_read_only",
        "system/test_faults::test_a_clock_that_goes_back",
        "system/test_faults::test_two_builds_and_a_clean_at_once",
        "system/test_bad_input::test_a_full_disk",
    ),
    "Bad input may only end": ("repository/test_fuzz::test_forged_files_are_refused_or_taken_in_time",),
    "It does not depend on the folder": (
        "system/test_example::test_the_wheel_is_the_same_wherever_and_whoever_builds_it",
    ),
    "`_bpf/build.json` in the wheel": ("system/test_example::test_the_record_has_clangs_version",),
    "Each row is a test": ("system/test_privileges::test_the_capabilities_of_the_table_are_enough_and_none_too_many",),
    "The error also says what else": (
        "system/test_privileges::test_root_of_a_user_namespace_learns_that_it_is_not_enough",
        "system/test_privileges::test_a_seccomp_filter_is_named",
        "system/test_privileges::test_what_else_forbids_it_is_named",
    ),
    "Nothing else is ever tried": (
        "runtime/test_libbpf_path::test_no_folder_that_others_name",
        "runtime/test_libbpf_path::test_no_library_that_the_wheel_did_not_bring",
    ),
    "The wheel's own is loaded from memory": (
        "runtime/test_swapped_files::test_libraries_that_are_swapped_after_their_check",
    ),
    "As root, a system library is skipped": (
        "runtime/test_libbpf_path::test_root_takes_none_that_others_could_change",
    ),
}


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text()


def sentences(page: str) -> Iterator[str]:
    """The sentences of a page's paragraphs and lists; code, tables, headings and pictures have none."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):
        lines = [line for line in paragraph.splitlines() if not line.startswith(("    ", "#", "|", "!["))]
        for item in re.split(r"(?m)^- ", "\n".join(lines)):
            yield from filter(None, re.split(r"(?<=[.:]) (?=[A-Z`])", " ".join(item.split())))


def test_each_sentence_of_the_readme_is_known() -> None:
    found = list(sentences("README.md"))
    known = [[start for start in README if sentence.startswith(start)] for sentence in found]
    assert [sentence for sentence, starts in zip(found, known, strict=True) if not starts] == []
    assert [start for starts in known for start in starts] == list(README)


def test_each_row_of_the_threats_is_known() -> None:
    rows = re.findall(r"^\| (.*?) \| .* \| .* \|$", text_of("SECURITY.md").split("### Not defended")[0], re.MULTILINE)
    assert rows == ["who can supply what", *THREATS]


@pytest.mark.parametrize("start", SECURITY)
def test_the_sentences_of_security_are_there(start: str) -> None:
    assert [sentence for sentence in sentences("SECURITY.md") if sentence.startswith(start)]


@pytest.mark.parametrize("claims", [README, THREATS, SECURITY], ids=["readme", "threats", "security"])
def test_the_tests_are_there(claims: Mapping[str, tuple[str, ...]]) -> None:
    for test in (test for tests in claims.values() for test in tests):
        module, _, function = test.partition("::")
        assert not function or function in functions(module), test
        assert functions(module), test


@cache
def functions(module: str) -> frozenset[str]:
    """The tests of a module below tests/."""
    tree = ast.parse((REPOSITORY / "tests" / f"{module}.py").read_text())
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )
