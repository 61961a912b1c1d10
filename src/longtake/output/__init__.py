"""Builds the output file from the source's frames and sound and from the generated ones."""
