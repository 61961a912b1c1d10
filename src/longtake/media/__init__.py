"""Video files: reading frames and sound, encoding output files, and joining source and generated sound and colours."""
