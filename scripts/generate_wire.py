"""Makes the modules of csi/lazyfs_csi/wire from csi/proto: `python scripts/generate_wire.py [DIR]`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROTO = ROOT / "csi" / "proto"
WIRE = "lazyfs_csi/wire"


def generate(into: Path) -> None:
    """Write the modules below `into`, which becomes what `csi` is: the directory of the package."""
    import grpc_tools  # noqa: PLC0415 - only who generates needs it
    from grpc_tools import protoc  # noqa: PLC0415

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    names = [f"{WIRE}/{file.name}" for file in sorted(PROTO.glob("*.proto"))]
    options = [f"-I{WIRE}={PROTO}", f"-I{well_known}"]
    options += [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", *options, *names]):
        sys.exit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "csi")
