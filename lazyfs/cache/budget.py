"""How much the cache directory may hold, and who leaves when it is full.

Whole blobs leave, those of older formats first and then those longest unused, never one of the mounted
snapshot: where the budget is smaller than
the model, what does not fit is served and not stored. So nothing is ever fetched, evicted and fetched again
in circles (what users of other mounts met: vllm#31726).

A share bounds what the mounted snapshot itself may take; to have more of it, nobody else's blobs leave.
"""

import logging
import threading
import time

from lazyfs.cache.directory import CacheDirectory, StoredBlob

log = logging.getLogger(__name__)

FULL_S = 10.0
"""After eviction found nothing, how long it is not tried again: it reads the whole directory."""


class Budget:
    """Bytes of the cache directory. Called from several threads; one at a time evicts."""

    def __init__(
        self, directory: CacheDirectory, ours: frozenset[str], share_bytes: int | None = None
    ) -> None:
        self._directory = directory
        self._ours = ours
        self._share_bytes = share_bytes
        self._own_bytes = 0
        self._lock = threading.Lock()
        self._evicting = threading.Lock()
        self._full_until_s = 0.0
        self.used_bytes = 0
        self.capacity_bytes = 0
        self.older_bytes = 0
        """What versions with other keys have left here; it is not read, and leaves first."""

    def measure(self, capacity_bytes: int | None) -> int:
        """Look at the directory and set the capacity (None: `auto`); return what could be evicted."""
        stored = self._directory.stored()
        self.used_bytes = sum(blob.allocated_bytes for blob in stored)
        self.older_bytes = sum(blob.allocated_bytes for blob in stored if blob.older)
        if capacity_bytes is None:
            capacity_bytes = self._directory.capacity_bytes(self.used_bytes)
        self.capacity_bytes = capacity_bytes
        self._own_bytes = sum(blob.allocated_bytes for blob in stored if self._is_ours(blob))
        return self.used_bytes - self._own_bytes

    def _is_ours(self, blob: StoredBlob) -> bool:
        return blob.store_key in self._ours and not blob.older

    @property
    def share_left_bytes(self) -> int | None:
        """How much more the mounted snapshot may take; None without a share."""
        return None if self._share_bytes is None else max(0, self._share_bytes - self._own_bytes)

    def reserve(self, size_bytes: int) -> bool:
        """Take `size_bytes`, evicting other snapshots' blobs if need be; False if budget or share is full."""
        if self._take(size_bytes):
            return True
        if self._beyond_share(size_bytes):
            return False
        with self._evicting:
            if self._take(size_bytes):  # another writer has made room
                return True
            if time.monotonic() < self._full_until_s:
                return False
            self._evict(size_bytes)
            fits = self._take(size_bytes)
            self._full_until_s = 0.0 if fits else time.monotonic() + FULL_S
            return fits

    def _take(self, size_bytes: int) -> bool:
        with self._lock:
            fits = self.used_bytes + size_bytes <= self.capacity_bytes and not self._beyond_share(size_bytes)
            if fits:
                self.used_bytes += size_bytes
                self._own_bytes += size_bytes
            return fits

    def _beyond_share(self, size_bytes: int) -> bool:
        left_bytes = self.share_left_bytes
        return left_bytes is not None and size_bytes > left_bytes

    def release(self, size_bytes: int) -> None:
        """Give back what was reserved and not written."""
        with self._lock:
            self.used_bytes -= size_bytes
            self._own_bytes -= size_bytes

    def _evict(self, wanted_bytes: int) -> None:
        with self._lock:
            before_bytes = self.used_bytes
        stored = self._directory.stored()
        used_bytes = sum(blob.allocated_bytes for blob in stored)
        for blob in stored:
            if used_bytes + wanted_bytes <= self.capacity_bytes:
                break
            if not self._is_ours(blob):
                used_bytes -= self._remove(blob)
        with self._lock:
            # What was reserved meanwhile counts too.
            self.used_bytes += used_bytes - before_bytes

    def _remove(self, blob: StoredBlob) -> int:
        """Evict a blob; return the bytes that are free now."""
        try:
            self._directory.remove(blob)
        except OSError as error:
            log.warning("cache_evict_failed blob=%s error=%r", blob.store_key[:12], error.strerror)
            return 0
        log.info("cache_evicted blob=%s bytes=%d", blob.store_key[:12], blob.allocated_bytes)
        return blob.allocated_bytes
