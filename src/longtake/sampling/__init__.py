"""The parts of sampling that all families share: window loop, noise, positions, noise schedules, step cache and VAE."""
