"""Measures and draws the joint of a finished video, where source and new frames meet: figures, a contact sheet of
frames, a spectrogram of the sound."""
