"""Speed and memory of ctclip as ratios that are measured inside one run: ``python -m benchmarks``."""
