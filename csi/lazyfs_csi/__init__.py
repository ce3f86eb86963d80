"""lazyfs as a volume of Kubernetes: a CSI driver in two processes (docs/csi.md).

`driver` is what the kubelet and the provisioner talk to, `mounter` runs the workers. They hold each other's
descriptors, so that either can be replaced under its readers.
"""

import os

# Before grpc is imported, which reads them then: nothing here ever forks, and what fails is said by us.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

DRIVER_NAME = "csi.lazyfs.dev"
