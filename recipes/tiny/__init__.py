"""Makes the embedded LTX-Video model: draws its toy world, trains, evaluates and exports it."""
