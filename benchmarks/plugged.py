"""Makes one module a plug-in package that Python finds as if it were installed, without installing anything."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
_METADATA: Final = "Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n"


def plugged(folder: Path, module: Path, entry_points: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Put a copy of `module`, a file, into `folder`, and say there which plug-ins it holds.

    `entry_points` is for each group (`exhaust.emitters`) the plug-ins' names and where they are (`{"mine":
    "module:EMITTER"}`). Returns our environment with that folder added, for a process that is to find them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(module, folder)
    told = folder / f"{module.stem}-0.1.0.dist-info"
    told.mkdir(exist_ok=True)
    (told / "METADATA").write_text(_METADATA.format(name=module.stem.replace("_", "-")))
    sections = (
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in named.items())
        for group, named in entry_points.items()
    )
    (told / "entry_points.txt").write_text("\n".join(sections))
    path = os.pathsep.join(filter(None, (str(folder), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
