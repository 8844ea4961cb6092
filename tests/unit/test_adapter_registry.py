"""Every adapter that is a file is in the table, and none costs those who do not use it."""

import subprocess
import sys
from pathlib import Path

import adapters
from adapters.registry import ADAPTERS

NO_ADAPTERS = {"__init__", "registry", "ansible_events", "ansible_record", "ansible_run"}


def test_folder_and_table_agree() -> None:
    files = {path.stem for path in Path(adapters.__path__[0]).glob("*.py")}
    assert files - NO_ADAPTERS == set(ADAPTERS)
    assert all(adapter.name == name for name, adapter in ADAPTERS.items())


def test_the_table_imports_nothing_of_ansible() -> None:
    show = "import sys, adapters.registry; print(*{name.partition('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split()
    assert {"aiohttp", "adapters"} <= set(said)
    assert not {"ansible", "ansible_runner", "pexpect"} & set(said)
