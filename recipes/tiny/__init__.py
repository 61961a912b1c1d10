"""The embedded tiny model: procedural world, training stages, evaluation and export."""
