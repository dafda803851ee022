"""Where kernels' BTF comes from: identities, archives, single files of any form, and the matrix a project declares."""
