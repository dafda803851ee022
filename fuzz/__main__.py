"""`python -m fuzz TARGET [--runs N] [--seconds N]`: let atheris find an input that a target does not refuse properly.

Starts from the seeds and from what earlier runs kept in `--corpus`. Ends at the first fault, with the input in a file
and status 1 or above: `python -m fuzz TARGET --input FILE` shows it again. A run also faults when one input takes more
than five seconds or the process more than 300 MB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SECONDS_PER_INPUT = 5
MEGABYTES = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.split("\n\n")[0])
    parser.add_argument("target", help="what to fuzz; `list` shows what there is")
    parser.add_argument("--runs", type=int, default=0, help="end after so many inputs")
    parser.add_argument("--seconds", type=int, default=0, help="end after so many seconds")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="folder that inputs are kept in")
    parser.add_argument("--input", type=Path, help="run one input, from a file")
    chosen = parser.parse_args()
    if chosen.input or chosen.target == "list":
        from fuzz.targets import REFUSALS, TARGETS

        if chosen.target == "list":
            print("\n".join(TARGETS))
            return 0
        try:
            TARGETS[chosen.target].run(chosen.input.read_bytes())
        except REFUSALS as error:
            print(f"refused: {error}")
        return 0
    return fuzz(chosen.target, chosen.runs, chosen.seconds, chosen.corpus)


def fuzz(name: str, runs: int, seconds: int, corpus: Path) -> int:
    """Fuzz one target. libFuzzer ends the process itself; a return is an error."""
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        print(
            "fuzzing needs atheris, which is on PyPI for CPython 3.11 to 3.13: pip install 'hatch-bpf[fuzz]'",
            file=sys.stderr,
        )
        return 2
    with atheris.instrument_imports(include=["hatch_bpf"]):
        from fuzz.targets import REFUSALS, TARGETS
    target = TARGETS[name]
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed, data in target.seeds().items():
        (folder / f"seed-{seed}").write_bytes(data)

    def one_input(data: bytes) -> None:
        try:
            target.run(data)
        except REFUSALS:
            pass

    limits = [f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={target.max_length}"]
    ends = [f"-runs={runs}"] * bool(runs) + [f"-max_total_time={seconds}"] * bool(seconds)
    atheris.Setup(
        [name, *limits, *ends, f"-artifact_prefix={corpus}/{name}-", "-print_final_stats=1", str(folder)], one_input
    )
    atheris.Fuzz()
    return 2


if __name__ == "__main__":
    sys.exit(main())
