"""The kernel edge: the only package that knows FUSE. It translates requests and decides nothing."""
