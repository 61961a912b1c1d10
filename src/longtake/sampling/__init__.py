"""The arithmetic of sampling: small pure functions on tensors, one file per concept."""
