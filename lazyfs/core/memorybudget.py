"""How much memory blocks may take, and how that follows what the process is left with.

What a mount takes beside its budget was measured in a cgroup, with 32 readers: 54 to 66 MB of the worker's
own, and blocks that have left the budget while a reply was being copied out of them, or while they were
being written: three, and never more than twelve (eight replies that wait for the kernel, two that are being
sent, two writers).
"""

from lazyfs.errors import MemoryTooSmall

MIB = 1 << 20
WORKER_BYTES = 72 * MIB
SUPERVISOR_BYTES = 40 * MIB
PROCESS_BYTES = WORKER_BYTES + SUPERVISOR_BYTES
LOOSE_BLOCKS = 6
"""Room for so many blocks that have left the budget and not the memory."""
SHARE = 4
"""`auto` takes at most one part in this many of the limit."""
LANDED_BYTES = 128 * MIB
USUAL_BYTES_MIN = 64 * MIB
"""`auto` takes no less than this while there is room for it."""
BYTES_MIN = 32 * MIB
BLOCKS_MIN = 2
RESERVE_BYTES = 24 * MIB
"""So much is left unused by whoever follows a limit: memory is taken between two looks at it."""


def budget_bytes(limit_bytes: int, asked_bytes: int | None, connections: int, block_bytes: int) -> int:
    """Return the budget within a limit on the memory of the process: what was asked for, or (None) `auto`.

    Raises:
        MemoryTooSmall: when that does not fit.

    """
    room = room_bytes(limit_bytes, block_bytes)
    size = asked_bytes or auto_bytes(limit_bytes, connections, block_bytes)
    if size <= room:
        return size
    limit, needed = f"the memory limit is {_mib(limit_bytes)}", _mib(size + limit_bytes - room)
    if asked_bytes is not None and room >= USUAL_BYTES_MIN:
        raise MemoryTooSmall(
            f"{limit}, and with --memory {_mib(size)} a mount needs {needed}",
            f"raise the limit, or give --memory {room // MIB}MiB",
        )
    raise MemoryTooSmall(
        f"{limit}, and a mount needs {needed} with blocks of {_mib(block_bytes)}",
        "raise the limit, better to 512MiB",
    )


def least_budget_bytes(limit_bytes: int, asked_bytes: int | None, connections: int, block_bytes: int) -> int:
    """Return the budget of a mount that must go on, even where it would not have been begun."""
    size = asked_bytes or auto_bytes(limit_bytes, connections, block_bytes)
    return max(least_bytes(block_bytes), min(size, room_bytes(limit_bytes, block_bytes)))


def auto_bytes(limit_bytes: int, connections: int, block_bytes: int) -> int:
    """Return what `auto` takes: twice what is in flight, and some more; at most a quarter of the limit.

    More does not load faster. It touches more fresh memory, which on a virtual machine may have to come from
    the host first: 1 GiB instead of 384 MiB cost a fifth of the time of a cold load (docs/adr/0006).
    """
    wanted = max(USUAL_BYTES_MIN, min(2 * connections * block_bytes + LANDED_BYTES, limit_bytes // SHARE))
    return max(least_bytes(block_bytes), min(wanted, room_bytes(limit_bytes, block_bytes)))


def room_bytes(limit_bytes: int, block_bytes: int) -> int:
    """Return what a limit leaves for the budget; it may be less than nothing."""
    return limit_bytes - PROCESS_BYTES - LOOSE_BLOCKS * block_bytes


def least_bytes(block_bytes: int) -> int:
    """Return the smallest budget there is."""
    return max(BYTES_MIN, BLOCKS_MIN * block_bytes)


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes // MIB)}MiB"


def squeezed_bytes(wanted_bytes: int, headroom_bytes: int, held_bytes: int, block_bytes: int) -> int:
    """Return the budget for now: what was wanted, or what there is room for if that is less.

    There is so much left before the limit, and blocks hold so much already; limits change, and others take
    memory too.
    """
    room = held_bytes + headroom_bytes - RESERVE_BYTES
    least = min(wanted_bytes, least_bytes(block_bytes))
    # Less than a block more or less is no difference.
    return wanted_bytes if room > wanted_bytes - block_bytes else max(least, room)
