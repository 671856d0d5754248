"""The implementation of ``delayline.torch``."""
