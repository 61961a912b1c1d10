"""The output file: the source's own frames and sound, joined with the new ones and encoded."""
