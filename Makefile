# Each target sets up everything that it needs, by tools/setup.sh.
VENV := .venv
PYTHON := $(VENV)/bin/python
RUNS := 100000
# one process for each core; what uses the kernel runs in one of them (tests/conftest.py)
PARALLEL := -n auto --dist loadgroup
LOWEST := $(addprefix tests/,objects/test_model.py btf/test_reader.py btf/test_writer.py cli/test_main.py compiler/test_strip.py \
	kernels/test_archive.py kernels/test_lock.py kernels/test_matrix.py kernels/formats/test_packages.py project/test_config.py \
	project/test_options.py project/test_sources.py skeleton/test_types.py system/test_front_ends.py test_hatch_plugin.py \
	test_setuptools_plugin.py)

.PHONY: help demo test test-quick test-kernels test-lowest bench fuzz soak clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo:  ## build the example's wheel with pip, install it alone, load it into this kernel and print live data
	@tools/setup.sh demo $(VENV)
	@$(PYTHON) example_project/demo.py

test:  ## check style and types, then run the tests
	@tools/setup.sh test $(VENV)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PYTHON) -m pytest $(PARALLEL)

test-quick:  ## run only the unit tests that are quick: they neither build packages nor load programs into this kernel
	@tools/setup.sh test $(VENV)
	$(PYTHON) -m pytest -q $(PARALLEL) -m "unit and not thorough"

test-kernels:  ## boot real kernels under qemu, and check programs, the example and the verdicts there
	@tools/setup.sh lab $(VENV)
	$(PYTHON) -m tests.lab $(KERNELS)

bench:  ## measure what hatch-bpf costs beside what does the same without it, and print a table
	@tools/setup.sh bench $(VENV)
	$(PYTHON) -m benchmarks $(BENCH)

test-lowest:  ## test with the oldest versions of the packages that hatch-bpf requires
	@tools/setup.sh lowest $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pytest -q $(PARALLEL) $(LOWEST)

fuzz:  ## look for input that is not refused properly: RUNS inputs for each target, or for those in TARGETS
	@tools/setup.sh fuzz $(VENV)
	@for target in $(or $(TARGETS),$$($(PYTHON) -m fuzz list)); do \
		echo "== $$target"; $(PYTHON) -m fuzz $$target --runs $(RUNS) || exit 1; \
	done

soak:  ## run the example under load for ten minutes, as root: it reports everything, and its memory does not grow
	@tools/setup.sh test $(VENV)
	$(PYTHON) -m tests.soak

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-lowest build dist
