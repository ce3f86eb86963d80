"""`python -m lazyfs.mount FD ...`: a worker (`worker`)."""

import gc

from lazyfs import GARBAGE_THRESHOLD

if __name__ == "__main__":
    # Before anything is imported; `lifecycle` goes back to the default.
    gc.set_threshold(GARBAGE_THRESHOLD)
    from lazyfs.supervisor.privileges import hurry

    # Readers may be waiting, and keep every processor busy with what they have.
    hurry()
    from lazyfs.mount.worker import start

    start()
