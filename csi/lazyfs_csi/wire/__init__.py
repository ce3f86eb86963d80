"""Generated from csi/proto by scripts/generate_wire.py: what goes over the wire."""
