"""Makes the embedded LTX-2 model, with video and audio, from the weights of the embedded LTX-Video model."""
