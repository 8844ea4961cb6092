"""One configured analyzer."""

import fnmatch
from dataclasses import dataclass

from exhaust.language import Defined
from exhaust.plugins import Inferring, Method


@dataclass(frozen=True)
class Analysis:
    """Its settings, its compiled method, and the name that its facts are made under."""

    name: str
    settings: Inferring
    method: Method
    definition: str

    @classmethod
    def of(cls, defined: Defined[Inferring], method: Method) -> "Analysis":
        settings = defined.value
        return cls(settings.name or f"{settings.use}/{settings.fact}", settings, method, defined.hash)

    def wants(self, stream: str) -> bool:
        return fnmatch.fnmatchcase(stream, self.settings.on)
