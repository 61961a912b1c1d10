"""Makes the embedded tiny model of picture and sound, starting from the first family's weights."""
