"""What a volume's attributes mean. Pure.

They are what users write: `volumeAttributes` of an inline volume or a PersistentVolume, `parameters` of a
StorageClass. A name nobody knows is refused by that name: a typing error must not be a setting ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lazyfs.config import MountOptions, options_of
from lazyfs.core.layout import Layout, refuse_several
from lazyfs.errors import LazyfsError, UsageError

KUBERNETES = "csi.storage.k8s.io/"
"""What the kubelet says of a pod, and the provisioner of a claim, begins with this."""
_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io")
"""Reserved for Kubernetes (kubernetes.io/docs, "Labels and Selectors", syntax), with all their subdomains."""
OPTIONS = {
    "policy": "policy",
    "include": "include",
    "exclude": "exclude",
    "layout": "layout",
    "cacheSize": "cache_size",
    "memory": "memory",
    "connections": "connections",
    "blockSize": "block_size",
    "readAhead": "read_ahead",
    "readDeadline": "read_deadline",
    "endpointUrl": "endpoint_url",
    "addressingStyle": "addressing_style",
    "anonymous": "anonymous",
}
"""Attributes that are options of a mount."""
_SOURCES = {"source", "revision", "region"}
_THEIRS = {"sourceType", "sourceId", "bucketName", "prefix"}
"""Those of hf-csi-driver, and of Mountpoint's driver: a volume written for them needs no change."""
WAYS = ("source", "sourceId", "bucketName")
"""Attributes one of which says what to mount."""
VERIFY = "verify"
"""There is nothing to choose: a file with a publisher's digest is hashed once it is complete."""
KNOWN = sorted(_SOURCES | _THEIRS | set(OPTIONS) | {VERIFY})
LENGTH_MAX = 24 << 10
"""Bytes of all attributes, and of all that is used of a secret: one message has to hold both."""
_FLAGS = {f"--{name.replace('_', '-')}": attribute for attribute, name in OPTIONS.items()}
_YES, _NO = {"true", "1", "yes"}, {"false", "0", "no", ""}
_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_IN_SECRET = re.compile(
    r"set (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY|HF_TOKEN(?: to one of [^ ,]+)?"
    r"|(?:LAZYFS_HTTP_TOKEN, or )?LAZYFS_HTTP_USER and LAZYFS_HTTP_PASSWORD)"
)
_ELSEWHERE = re.compile(r", or (?:run `hf auth login`|put (?:it|the host) into ~/\.netrc)")
"""What the owner of a pod can do nothing with."""
_HOW = "write it like s3://bucket/models/llama, hf://org/model or https://host/models/llama"


@dataclass(frozen=True, slots=True)
class Volume:
    """What to mount."""

    sources: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `MountOptions`, as text that is known to be right; what can be repeated, as a list."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the worker is told that is no option and no secret."""

    @property
    def label(self) -> str:
        """What it is called."""
        return " ".join(self.sources)


def volume_of(context: Mapping[str, str]) -> Volume:
    """Return the volume that attributes describe; those of Kubernetes are passed over.

    Raises:
        UsageError: when one is not known, or wrong, or there is no source.

    """
    own = without_reserved(context)
    unknown = sorted(set(own) - set(KNOWN))
    if unknown:
        raise UsageError(f"there is no attribute {unknown[0]}", f"the attributes are {', '.join(KNOWN)}")
    refuse_unfit("attribute", own)
    if own.get(VERIFY) and not _truth(VERIFY, own[VERIFY]):
        raise UsageError(
            "attribute verify: files that have a publisher's digest are always verified", "leave it out"
        )
    options = {OPTIONS[name]: _option(name, own[name]) for name in sorted(set(OPTIONS) & set(own))}
    options = {name: value for name, value in options.items() if value not in (None, [])}
    sources = tuple(_source(text, own.get("revision", "")) for text in _sources(own))
    refuse_several(list(sources), Layout(options.get("layout", "flat")))
    region = {"AWS_REGION": own["region"], "AWS_DEFAULT_REGION": own["region"]} if own.get("region") else {}
    return Volume(sources, options, region)


def without_reserved(texts: Mapping[str, str]) -> dict[str, str]:
    """Return what users wrote: without the names that belong to Kubernetes.

    The kubelet, csi-provisioner and whatever else stands between a user and this driver add such names, and
    newer versions add others. `storage.kubernetes.io/csiProvisionerIdentity` is in every volume of a
    StorageClass.
    """
    return {name: text for name, text in texts.items() if not _is_reserved(name)}


def _is_reserved(name: str) -> bool:
    prefix, slash, _ = name.partition("/")
    return bool(slash) and any(
        prefix == domain or prefix.endswith(f".{domain}") for domain in _RESERVED_DOMAINS
    )


def refuse_unfit(what: str, texts: Mapping[str, str]) -> None:
    """Check that texts are text, and no longer than anybody needs. None of them is in the message.

    Raises:
        UsageError: when they are not.

    """
    for name, text in texts.items():
        if any(character < " " and not character.isspace() for character in text):
            raise UsageError(f"{what} {name} has a control character in it", "look at it as bytes")
    if sum(len(text.encode()) for text in texts.values()) > LENGTH_MAX:
        longest = max(texts, key=lambda name: len(texts[name]))
        raise UsageError(f"{what} {longest} is too long", f"all together may have {LENGTH_MAX >> 10} KiB")


def _option(attribute: str, text: str) -> Any:
    """Return an option as a worker is told it; None when it says nothing."""
    option = options_of(MountOptions)[OPTIONS[attribute]]
    if option.many:
        return text.split()
    if isinstance(option.default, bool):
        return _truth(attribute, text)
    try:
        if option.parse is not None:
            option.parse(text)
    except UsageError as error:
        raise UsageError(f"attribute {attribute}: {for_volumes(error.cause)}", error.cure) from None
    return text


def _truth(attribute: str, text: str) -> bool | None:
    if text.lower() not in _YES | _NO:
        raise UsageError(f"attribute {attribute}: {text!r} is neither true nor false", 'write "true"')
    return text.lower() in _YES or None


def _sources(own: Mapping[str, str]) -> list[str]:
    """Return the sources as they were written, in whichever way."""
    ways = [name for name in WAYS if own.get(name)]
    if len(ways) > 1:
        raise UsageError(f"attributes {' and '.join(ways)} both say what to mount", "give one of them")
    if not ways:
        raise UsageError("no attribute says what to mount", f"give source; {_HOW}")
    if ways == ["source"]:
        return own["source"].split()
    if ways == ["bucketName"]:
        return [f"s3://{own['bucketName']}/{own.get('prefix', '').strip('/')}"]
    kind = own.get("sourceType", "repo").lower()
    if kind not in {"repo", "model", "dataset"}:
        raise UsageError(f"attribute sourceType: {kind} is not served", "repo is: a repository of the Hub")
    return [f"hf://{'datasets/' if kind == 'dataset' else ''}{own['sourceId'].strip('/')}"]


def _source(text: str, revision: str) -> str:
    """Return one source in the one way it is written here: two that are the same shall be equal."""
    called, equals, address = text.partition("=")
    if not equals or "://" in called:
        called, equals, address = "", "", text
    scheme, separator, place = address.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise UsageError(f"{text!r} is not a source", _HOW)
    place = place.rstrip("/") or place
    if revision:
        place = _revised(scheme.lower(), place, revision)
    return f"{called}{equals}{scheme.lower()}://{place}"


def _revised(scheme: str, place: str, revision: str) -> str:
    """Return the place in a repository at a revision."""
    if scheme != "hf":
        raise UsageError("attribute revision is for hf:// sources", "leave it out")
    if "@" in place:
        raise UsageError(f"hf://{place} names a revision, and attribute revision too", "give one of them")
    parts = place.split("/")
    names = 3 if parts[0] in {"models", "datasets"} else 2
    quoted = revision if revision.startswith("refs/") else revision.replace("/", "%2F")
    return "/".join(["/".join(parts[:names]) + f"@{quoted}", *parts[names:]])


def filled_in(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return parameters of a class with `${pvc.name}`, `${pvc.namespace}` and `${pv.name}` filled in.

    The provisioner says what they are when it is started with --extra-create-metadata.

    Raises:
        UsageError: when it does not say, or something else is to be filled in.

    """
    said = {
        name: parameters.get(f"{KUBERNETES}{name.replace('.', '/')}", "")
        for name in ("pvc.name", "pvc.namespace", "pv.name")
    }

    def value(found: re.Match[str]) -> str:
        if found[1] not in said:
            raise UsageError(f"there is no ${{{found[1]}}}", f"there are {', '.join(said)}")
        if not said[found[1]]:
            raise UsageError(
                f"nobody says what ${{{found[1]}}} is", "start csi-provisioner with --extra-create-metadata"
            )
        return said[found[1]]

    return {name: _TEMPLATE.sub(value, text) for name, text in without_reserved(parameters).items()}


def for_volumes(text: str) -> str:
    """Return a message as users of volumes have it: attributes for options, a secret for variables."""
    for flag, attribute in _FLAGS.items():
        text = re.sub(rf"{flag}(?![\w-])", f"attribute {attribute}", text)
    return _IN_SECRET.sub(r"set \1 in the volume's secret (nodePublishSecretRef)", _ELSEWHERE.sub("", text))


def said(error: LazyfsError) -> str:
    """Return an error as `kubectl describe pod` shall show it."""
    return for_volumes(str(error))
