"""python -m experiments.benchmark: how fast a config trains here."""

from experiments.benchmark.throughput import main
from experiments.benchmark.timing import run_benchmark

if __name__ == "__main__":
    run_benchmark(main)
