"""Where kernels' BTF comes from: identities, archives, single files of any form, and the matrix a project declares."""

HOST = "host"
"""The name that means the machine that builds, wherever a kernel can be named."""
