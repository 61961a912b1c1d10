"""Video files: reads frames and sound, encodes output files, cross-fades source and new sound, matches colours."""
