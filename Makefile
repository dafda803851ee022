# Each target does all of its own set-up: see tools/setup.sh.
VENV := .venv
PYTHON := $(VENV)/bin/python
RUNS := 100000
LOWEST := $(addprefix tests/test_,$(addsuffix .py,bpf_object btf_reader btf_writer cli config elf_strip hatch_plugin \
	kernels_archive kernels_lock kernels_matrix kernels_packages options project setuptools_plugin skeleton_types))

.PHONY: help demo test test-kernels test-lowest bench fuzz soak clean

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo:  ## build the example's wheel with pip, install it alone, load it into this kernel and print live data
	@tools/setup.sh demo $(VENV)
	@$(PYTHON) example_project/demo.py

test:  ## check style and types, then run the tests
	@tools/setup.sh test $(VENV)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(PYTHON) -m pytest

test-kernels:  ## boot real kernels under qemu, and hold programs, the example and the verdicts against them
	@tools/setup.sh lab $(VENV)
	$(PYTHON) -m tests.kernels $(KERNELS)
	$(PYTHON) -m tests.kernels.example $(KERNELS)
	$(PYTHON) -m tests.kernels.seeds $(KERNELS)
	$(PYTHON) -m tests.kernels.kinds $(KERNELS)
	$(PYTHON) -m tests.kernels.verdicts $(KERNELS)
	$(PYTHON) -m tests.kernels.privileges $(KERNELS)

bench:  ## measure what hatch-bpf costs, against what does the same without it, and print the table
	@tools/setup.sh bench $(VENV)
	$(PYTHON) -m benchmarks $(BENCH)

test-lowest:  ## test with the oldest versions of what hatch-bpf needs
	@tools/setup.sh lowest $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pytest -q $(LOWEST)

fuzz:  ## look for input that is not refused properly: RUNS inputs for each of TARGETS
	@tools/setup.sh fuzz $(VENV)
	@for target in $(or $(TARGETS),$$($(PYTHON) -m fuzz list)); do \
		echo "== $$target"; $(PYTHON) -m fuzz $$target --runs $(RUNS) || exit 1; \
	done

soak:  ## run the example for ten minutes under load, as root: is all told of, and does its memory stay as it is?
	@tools/setup.sh test $(VENV)
	$(PYTHON) -m tests.soak

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-lowest build dist
