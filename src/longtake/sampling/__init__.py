"""The parts of sampling that all model families share: the main loop, noise, positions, noise schedules, step cache,
VAE."""
