"""The people who may tell the loop what to do, as the operator lists them."""

from typing import Annotated, Literal

import msgspec

from exhaust.plugins import Settings

LOCAL = "local"
May = Literal["approve", "trigger", "halt", "emit"]


class Person(Settings, frozen=True, kw_only=True):
    """Somebody with a token of their own, in a file that only its owner can read. Each may read everything."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[\w.@-]{1,64}$")]
    token_file: Annotated[str, msgspec.Meta(min_length=1)]
    may: list[May] = []

    def __post_init__(self) -> None:
        if self.name == LOCAL:
            raise ValueError(f"{LOCAL!r} is who holds the token of the state directory: choose another name")
