"""Measures and draws the joint of a finished video: figures, a contact sheet of frames, a spectrogram of the sound."""
