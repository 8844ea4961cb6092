"""What lies at a pidfile's path is written by the service: it cannot hold up who reads it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.pidfiles import Pidfiles, PidfileService
from emitters.keepers.pidfile import Pidfile
from exhaust.plugins import ActionError


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("put", [os.mkfifo, device, endless, Path.mkdir])
async def test_what_is_no_pidfile_holds_up_nobody_and_names_no_process(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    path = tmp_path / "shop.pid"
    put(path)
    service = Pidfile("shop", lambda _: None, path, wanted=True)
    service.look()
    assert service.state == "stopped"
    with pytest.raises(ActionError, match="does not hold a pid"):
        await Pidfiles([PidfileService("shop", str(path))], time.time).pid("shop")
