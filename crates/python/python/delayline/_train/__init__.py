"""What ``delayline.torch`` is made of."""
