"""Inputs made up by atheris, where that is installed: `python -m tests.fuzz.run syslog_messages -max_total_time=120`.

The first argument is a file of this folder, whose `one_input` is called with each; the others are libFuzzer's.
"""

import importlib
import sys


def main() -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["emitters"]):
        tried = importlib.import_module(f"tests.fuzz.{sys.argv.pop(1)}")
    atheris.Setup(sys.argv, tried.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
