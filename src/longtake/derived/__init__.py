"""Derived files: what the server's pages show of a stored video. A child program makes each of them from the video."""
