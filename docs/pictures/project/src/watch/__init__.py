"""The project in the README's pictures of a portability report."""
