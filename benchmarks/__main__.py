"""`python -m benchmarks`."""

from benchmarks.cold import main

main()
