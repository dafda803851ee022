"""Files of any form -> a kernel's BTF."""
