"""Models: what there is, where it comes from, and how it gets into memory safely."""
