"""longtake keeps the camera rolling: it extends any video with LTX models, on the user's own hardware."""

__version__ = "0.1.0"
