"""The seeds' programs (tests/bpf/seeds): a package of all of them, exercises that use it, and what they must find."""
