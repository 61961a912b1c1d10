"""Makes the embedded LTX-Video model: its procedural world, training, evaluation and export."""
