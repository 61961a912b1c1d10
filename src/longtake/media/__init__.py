"""Video files: reads frames and sound, encodes output files, and joins the source's sound and colours with new ones."""
