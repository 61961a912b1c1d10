"""Measures and draws the joint of a finished video: figures, contact sheet, spectrogram."""
