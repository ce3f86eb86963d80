"""Plain files in a directory, by the same loader and transport as a mount: `lazyfs pull`, `lazyfs warm`."""
