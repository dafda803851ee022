"""The repository's own pages, scripts and settings say what is true."""
