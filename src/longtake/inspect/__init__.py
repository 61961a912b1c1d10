"""Measures and draws the joint of a finished file: figures, frame sheet, spectrogram."""
