"""How similar an encoder's features of clean and noisy images are, next to those of different images."""
