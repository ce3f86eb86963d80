"""vLLM, and the other loaders of weights, on real mounts. They run in an environment of their own."""
