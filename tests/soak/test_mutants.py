"""The soak finds out a product that loses a record, and one that does an effect twice; the rest: make soak-mutants."""

import pytest

from tests.soak.mutants import found_out, undergo


@pytest.mark.parametrize("name", ["drop", "repeat"])
async def test_a_seeded_fault_is_found_out(name: str) -> None:
    violations = await undergo(name)
    assert found_out(name, violations), violations
