"""`python -m hatch_bpf` is the command `hatch-bpf`."""

import sys

from hatch_bpf.cli.main import main

sys.exit(main())
