"""Fuzzing of everything that reads what others made: `python -m fuzz TARGET --runs N`, or `make fuzz` for all.

`targets.py` says what is fuzzed and what counts as a fault, `seeds.py` makes the inputs to start from, `__main__.py`
lets atheris (libFuzzer for Python) do the rest. `tests/repository/test_fuzz.py` runs the same targets on a few
mutations.
"""
