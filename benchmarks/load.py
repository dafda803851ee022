"""What `load.c` does, through the example's skeleton: print the CPU time of opening, loading and attaching to a cgroup.

Run in a fresh process, so that all that is done only once (finding and loading libbpf, declaring its functions) counts.
"""

from __future__ import annotations

import importlib
import sys
import time

skeleton = importlib.import_module("tcprtt.tcprtt_skel")
start = time.process_time()
with skeleton.Tcprtt.open() as bpf, bpf.load() as skel:
    skel.programs.bpf_sockops_cb.attach_cgroup(sys.argv[1])
    print(time.process_time() - start)
