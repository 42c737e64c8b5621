"""Hostile input. ``CTCLIP_FUZZ_INPUTS`` says how many mutated files are tried (default 1000; 10000 take minutes)."""
