"""A Hub-like server, for tests and by hand: `python -m tests.hub --model org/name=DIRECTORY`."""

from tests.hub.repository import Repository
from tests.hub.server import Asked, Conduct, Hub

__all__ = ["Asked", "Conduct", "Hub", "Repository"]
