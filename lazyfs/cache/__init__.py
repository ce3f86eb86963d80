"""The node's disk: blocks kept between mounts, checked on every read. Disposable, never trusted blindly."""
