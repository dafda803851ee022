"""The BPF Type Format: types, reader, writer, .BTF.ext and C dump."""
