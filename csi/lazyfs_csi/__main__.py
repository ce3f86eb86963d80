"""`python -m lazyfs_csi`: `lazyfs-csi`."""

from lazyfs_csi.driver import main

if __name__ == "__main__":
    main()
