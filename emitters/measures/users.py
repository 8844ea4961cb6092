"""What users are called."""

from pathlib import Path


class Users:
    """Names by user id, from a file like /etc/passwd: any other directory could keep us waiting for its server."""

    def __init__(self, path: Path = Path("/etc/passwd")) -> None:
        self._path = path
        self._written: tuple[int, int] | None = None
        self._names: dict[int, str] = {}

    def refresh(self) -> None:
        """Read the file if it was written anew."""
        try:
            status = self._path.stat()
            written = status.st_ino, status.st_mtime_ns
            if written != self._written:
                lines = self._path.read_text(errors="backslashreplace").splitlines()
                entries = [line.split(":") for line in reversed(lines)]  # of several with one number the first counts
                self._names = {int(entry[2]): entry[0] for entry in entries if len(entry) > 2 and entry[2].isdecimal()}
                self._written = written
        except OSError:  # not there, or not ours to read: numbers must do
            self._names, self._written = {}, None

    def name(self, uid: int) -> str:
        return self._names.get(uid, str(uid))
