"""One pull at work: the loader brings blocks, and each file is seen through to its place."""

import hashlib
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from lazyfs.cache.reading import StoredBlocks
from lazyfs.core.blob import BlockKey, page_aligned
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.wholeplan import WholePlan
from lazyfs.errors import BlockCorrupt, DigestMismatch, LazyfsError
from lazyfs.mount.loading import Loading
from lazyfs.pull.deposit import Deposit, Ears
from lazyfs.pull.destination import Destination, unusable
from lazyfs.pull.parts import Parts
from lazyfs.streaming.fetcher import Blobs

log = logging.getLogger(__name__)

LOCAL_AT_ONCE = 8
"""So many local blocks are asked for at once: twice the lanes that read them."""
PLACING = 4
"""Files that are put in place at once: each waits for its disk."""
PLACING_S = 5.0


@dataclass(frozen=True, slots=True)
class Material:
    """Where bytes may be already, and where they go."""

    destination: Destination
    parts: Parts
    cache: StoredBlocks


class Files:
    """How far each file is. `sound` counts its blocks, whoever has brought them."""

    def __init__(self, blobs: Blobs) -> None:
        self._sound = {i: bytearray(blobs.grid.count(b.size_bytes)) for i, b in blobs.by_inode.items()}
        self._missing = {inode: len(blocks) for inode, blocks in self._sound.items()}
        self._changed = {inode: trio.lowlevel.ParkingLot() for inode in blobs.by_inode}

    def sound(self, key: BlockKey) -> None:
        """Take note that a block is in its file, and right."""
        if not self._sound[key.inode][key.index]:
            self._sound[key.inode][key.index] = 1
            self._missing[key.inode] -= 1
            self._changed[key.inode].unpark_all()

    def unsound(self, key: BlockKey) -> None:
        """Take that back."""
        if self._sound[key.inode][key.index]:
            self._sound[key.inode][key.index] = 0
            self._missing[key.inode] += 1

    def has(self, key: BlockKey) -> bool:
        """Tell whether a block is in its file, and right."""
        return bool(self._sound[key.inode][key.index])

    async def reach(self, key: BlockKey) -> None:
        """Wait until a block is there."""
        while not self._sound[key.inode][key.index]:
            await self._changed[key.inode].park()

    async def whole(self, inode: int) -> None:
        """Wait until all of a file is there."""
        while self._missing[inode]:
            await self._changed[inode].park()


class Session:
    """See the module's docstring. Made outside of trio, for `run` within it."""

    def __init__(self, blobs: Blobs, material: Material, plan: WholePlan) -> None:
        self._blobs = blobs
        self._destination, self._parts, self._cache = material.destination, material.parts, material.cache
        self._plan = plan
        self._loading: Loading | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._hashing = trio.CapacityLimiter(max(1, os.cpu_count() or 1))
        self._placing = trio.CapacityLimiter(PLACING)
        self.deposit = Deposit(blobs, material.parts, material.cache, self._ears())
        self.files = Files(blobs)
        self.kept_bytes = 0
        """Bytes of files that were in place already."""
        self.error: LazyfsError | None = None
        """Why it ended before everything was in place."""
        self.mismatches: list[LazyfsError] = []

    def _ears(self) -> Ears:
        return Ears(
            sound=lambda key: self._tell(self._sound, key),
            refused=lambda error: self._tell(self._end, unusable(self._destination.root, error)),
        )

    def _tell(self, hear: Callable[..., None], *words: object) -> None:
        """Have the trio thread hear of something."""
        assert self._token is not None
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(partial(hear, *words))

    def _sound(self, key: BlockKey) -> None:
        self.files.sound(key)
        assert self._loading is not None
        self._loading.loader.stir()  # there is a place for another block

    def _kept(self, key: BlockKey) -> None:
        """Hear that nobody writes a block any more: from now on its memory can be used again."""
        assert self._loading is not None
        if self._blobs.by_inode[key.inode].digest is None:
            self._loading.loader.discard(key)

    def _end(self, error: LazyfsError) -> None:
        """End the pull: trying on cannot help."""
        self.error = self.error or error
        self._scope.cancel()

    async def run(self, loading: Loading, wanted: tuple[int, ...], doubtful: tuple[int, ...]) -> None:
        """Bring all `wanted` files to their places, and those `doubtful` ones that are not there already.

        `error` and `mismatches` say whether it went well.
        """
        self._loading, self._token = loading, trio.lowlevel.current_trio_token()
        loading.loader.gave_up = lambda _key, error: self._end(error)
        loading.loader.keeper.kept = self._kept
        assert loading.writer is not None
        with self._scope:
            async with trio.open_nursery() as machinery:
                machinery.start_soon(loading.loader.run)
                machinery.start_soon(loading.writer.run)
                machinery.start_soon(loading.memory.run)
                async with trio.open_nursery() as files:
                    for inode in wanted:
                        files.start_soon(self._see_through, inode)
                    for inode in doubtful:
                        files.start_soon(self._settle, inode)
                    files.start_soon(self._use_local, wanted)
                machinery.cancel_scope.cancel()
        # What is being put in place gets there, if the disk lets it.
        with trio.move_on_after(PLACING_S):
            while self._placing.borrowed_tokens:  # noqa: ASYNC110 - threads that nobody waits for any more
                await trio.sleep(0.01)

    # -- one file ------------------------------------------------------------------------------------

    async def _settle(self, inode: int) -> None:
        """Find out whether a file is in place already, by its digest; bring it if it is not."""
        blob = self._blobs.by_inode[inode]
        if await self._in_thread(self._hashing, self._destination.matches, blob):
            self.kept_bytes += blob.size_bytes
            return
        self._parts.look(inode)
        self._cache.look(inode)
        self._plan.want(inode)
        assert self._loading is not None
        self._loading.loader.stir()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._use_local, (inode,))
            nursery.start_soon(self._see_through, inode)

    async def _see_through(self, inode: int) -> None:
        """Wait for a file, check it, put it in place."""
        blob = self._blobs.by_inode[inode]
        digest = await self._digest(inode) if blob.digest is not None else None
        await self.files.whole(inode)
        if digest != blob.digest:
            await self._in_thread(self._placing, self._parts.remove, inode)
            error = DigestMismatch(
                f"{blob.name} is not what its publisher says: {digest} instead of {blob.digest}",
                "it was not put in place; pull again, and if that does not help tell the publisher",
            )
            log.error("digest_mismatch name=%r found=%s expected=%s", blob.name, digest, blob.digest)
            self.mismatches.append(error)
            return
        await self._in_thread(self._placing, self._place, inode)
        log.info("file_pulled name=%r bytes=%d digest=%s", blob.name, blob.size_bytes, digest or "none")

    def _place(self, inode: int) -> None:
        blob = self._blobs.by_inode[inode]
        self._parts.begin(inode)  # one without blocks has not been
        self._destination.place(blob, self._parts.data(inode))
        self._parts.remove(inode)

    async def _in_thread(
        self, limiter: trio.CapacityLimiter, work: Callable[..., bool | None], *given: object
    ) -> bool:
        """Do something with the disk in a thread; an error of it ends the pull."""
        try:
            return bool(
                await trio.to_thread.run_sync(partial(work, *given), abandon_on_cancel=True, limiter=limiter)
            )
        except OSError as error:
            self._end(unusable(self._destination.root, error))
            await trio.sleep_forever()
            raise AssertionError from None

    # -- its digest ----------------------------------------------------------------------------------

    async def _digest(self, inode: int) -> str:
        """Return the sha256 of a file, taken while it comes: from memory where its blocks still are there."""
        digest = hashlib.sha256()
        index, count = 0, self._blobs.grid.count(self._blobs.by_inode[inode].size_bytes)
        while index < count:
            key = BlockKey(inode, index)
            await self.files.reach(key)
            if await self._hash(key, digest):
                index += 1
        return f"sha256:{digest.hexdigest()}"

    async def _hash(self, key: BlockKey, digest: "hashlib._Hash") -> bool:
        """Add a block to a digest; return False when it has to be brought again."""
        assert self._loading is not None
        loader, size = self._loading.loader, self._blobs.span(key).size_bytes
        async with self._hashing:
            block = loader.peek(key, size)
            if block is not None:
                await trio.to_thread.run_sync(digest.update, block.cut(0, size), abandon_on_cancel=True)
                loader.discard(key)
                return True
            try:
                await trio.to_thread.run_sync(self._hash_stored, key, size, digest, abandon_on_cancel=True)
            except BlockCorrupt as error:
                log.warning("block_corrupt error=%r consequence=%r", str(error), "it is fetched again")
                self.files.unsound(key)
                self._plan.unmark(key)
                loader.stir()
                return False
        return True

    def _hash_stored(self, key: BlockKey, size: int, digest: "hashlib._Hash") -> None:
        with mmap.mmap(-1, page_aligned(size)) as pages, memoryview(pages) as into:
            self._parts.read(key, into)
            with into[:size] as content:
                digest.update(content)

    # -- what is here already ------------------------------------------------------------------------

    async def _use_local(self, inodes: tuple[int, ...]) -> None:
        """Have local blocks read and checked, a few at a time; the loader fetches what is not right."""
        keys = self._local_keys(inodes)
        async with trio.open_nursery() as nursery:
            for _ in range(LOCAL_AT_ONCE):
                nursery.start_soon(self._use, keys)

    async def _use(self, keys: Iterator[BlockKey]) -> None:
        assert self._loading is not None
        for key in keys:
            self._loading.loader.hint((key,), Urgency.WARMUP)
            await self.files.reach(key)

    def _local_keys(self, inodes: tuple[int, ...]) -> Iterator[BlockKey]:
        for inode in inodes:
            for index in range(self._blobs.grid.count(self._blobs.by_inode[inode].size_bytes)):
                key = BlockKey(inode, index)
                # What has come meanwhile is local too, and may be in place already: nobody looks for it.
                if self.deposit.has(key) and not self.files.has(key):
                    yield key
