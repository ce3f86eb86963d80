"""The bodies of commands that do not mount: what `lazyfs.cli` calls after it has read the command line."""
