"""Continues what a source shows and sounds like into the new frames of a small model, which cannot draw footage."""
