"""Whether a mount answers: the one place where the node plugin looks at one, from a thread that may hang.

It does not hang for long: a mount that does not answer is aborted, and then the kernel answers.
"""

import os
import threading
from pathlib import Path

ANSWER_S = 10.0


def answers(path: Path) -> bool:
    """Tell whether what is mounted at `path` answers in time."""
    found: list[bool] = []

    def look() -> None:
        try:
            os.listdir(path)  # noqa: PTH208
        except OSError:
            return
        found.append(True)

    looking = threading.Thread(target=look, daemon=True, name="look")
    looking.start()
    looking.join(ANSWER_S)
    return bool(found)
