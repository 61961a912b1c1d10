"""What the recipes of all families share: the loop over windows, noise, positions, schedules, step cache, VAE."""
