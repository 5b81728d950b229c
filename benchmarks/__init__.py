"""Side-by-side measurements on one machine, in one run: `python -m benchmarks`."""
