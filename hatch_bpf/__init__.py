"""hatch-bpf: compile and bundle portable BPF programs into Python packages. Start reading in `pipeline.py`."""

__version__ = "0.1.0"
