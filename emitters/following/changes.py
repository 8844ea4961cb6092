"""How two versions of a file differ, and what is told of that."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from emitters.following.complaints import shown
from emitters.following.version import Version


class Change(NamedTuple):
    """What became of a path; `kind` is empty where that is nothing to tell of, `source` where it was moved from."""

    path: str
    kind: str
    before: Version
    after: Version
    source: str = ""


def kind_of(before: Version, after: Version) -> str:
    """Return in which way two versions of a path differ; empty where nobody would mind."""
    if before.sha256 == after.sha256:
        return "attributes" if _attributes(before) != _attributes(after) else ""
    if not before.sha256:
        return "created"
    return "modified" if after.sha256 else "deleted"


def moved(changes: Sequence[Change]) -> list[Change]:
    """Make one of a file's end here and its beginning there; the former follows, and is nothing to tell of."""
    gone = {(one.before.file, one.before.sha256): one for one in changes if one.kind == "deleted"}
    found: list[Change] = []
    for change in changes:
        source = gone.pop((change.after.file, change.after.sha256), None) if change.kind == "created" else None
        if source is None:
            found.append(change)
            continue
        found.append(change._replace(kind="moved", before=source.before, source=source.path))
        found.append(source._replace(kind=""))
    silent = {one.path for one in found if not one.kind}
    return [one for one in found if not (one.kind == "deleted" and one.path in silent)]


def since(change: Change, now: float) -> float:
    """Return when a version came to be, as far as the file tells, else when it was noticed; epoch seconds."""
    if not change.after.sha256:
        return now
    written, touched = (round(stamp / 1e9, 6) for stamp in change.after.stamp[3:])
    moment = written if change.kind == "modified" else touched
    return moment if change.before.since < moment <= now else now


def fields_of(change: Change) -> dict[str, Any]:
    """Return the fields of a change's record; of what was before only what is different now."""
    before, after = _described(change.before), _described(change.after)
    fields: dict[str, Any] = {"path": shown(change.path), "kind": change.kind}
    fields |= {"sha256": change.after.sha256, "previous_sha256": change.before.sha256}
    fields |= after | {f"previous_{name}": value for name, value in before.items() if after.get(name) != value}
    if change.source:
        fields["previous_path"] = shown(change.source)
    if change.after.target:
        fields["target"] = change.after.target
    if change.after.partial:
        fields["partial"] = True
    return fields


def _described(version: Version) -> dict[str, Any]:
    if not version.sha256:
        return {}
    return {"size_bytes": version.size, "mode": version.mode, "owner": version.owner, "group": version.group}


def _attributes(version: Version) -> tuple[str, ...]:
    return version.mode, version.owner, version.group, version.target
