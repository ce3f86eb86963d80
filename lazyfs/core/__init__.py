"""The pure part: arithmetic, parsing and decisions. No I/O, clock, randomness, threads or logging."""
