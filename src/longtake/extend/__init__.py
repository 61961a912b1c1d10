"""One recipe per model family: from a context and a plan to new frames."""
