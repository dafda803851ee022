"""`python -m hatch_bpf` is the command `hatch-bpf`."""

import sys

from hatch_bpf.cli import main

sys.exit(main())
