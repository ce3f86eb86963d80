"""The process that holds the mount: it starts the worker that serves it, and another one when that dies."""
