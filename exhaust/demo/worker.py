"""A small real service that works as long as the file beside it says that it may."""

import pathlib
import sys
import threading

if not pathlib.Path(__file__).with_name("worker.ok").exists():
    sys.exit("worker: its configuration is gone")
threading.Event().wait()
