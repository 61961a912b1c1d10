"""Tests of the server's pages in a real browser, with the embedded models as the real models."""
