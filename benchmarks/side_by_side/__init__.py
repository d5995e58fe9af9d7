"""What `benchmarks/inference.py` is made of: cases, child processes for each program, a reference and the limit."""
