"""Messages as text for the log, with nothing secret in it. Pure.

CSI marks the fields that hold secrets (`csi_secret`), so whatever is marked is left out, of any message.
Users put a password into a URL all the same: what stands before the host is left out, too.
"""

import re
from typing import Any

from google.protobuf.message import Message

from lazyfs_csi.wire import csi_pb2

TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"
_HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^/\s]*@")
_SECRET: Any = csi_pb2.csi_secret


def shown(message: Message) -> str:
    """Return a message as one line: `name=value` of each field that is set; secrets only by their keys."""
    return " ".join(f"{name}={_text(value)}" for name, value in _fields(message))


def _fields(message: Message) -> list[tuple[str, Any]]:
    found = []
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[_SECRET]:
            found.append((field.name, dict.fromkeys(sorted(value), _HIDDEN)))
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            said = {name: _HIDDEN if name == TOKENS else value[name] for name in sorted(value)}
            found.append((field.name, said))
        else:
            found.append((field.name, value))
    return found


def _text(value: Any) -> str:
    if isinstance(value, Message):
        return f"({shown(value)})"
    if isinstance(value, str | dict):
        return _USER.sub(f"{_HIDDEN}@", repr(value))
    if hasattr(value, "__iter__") and not isinstance(value, bytes):
        return f"[{', '.join(_text(one) for one in value)}]"
    return str(value)
