"""Natural images: noise of published protocols, denoising under noise that training never saw, and the benchmark."""
