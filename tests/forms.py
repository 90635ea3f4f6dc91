"""Short forms of tests for `make test`, long ones for `make test-long`, which sets NMCL_LONG."""

import os

import pytest

LONG = os.environ.get("NMCL_LONG") == "1"
in_both_forms = [pytest.mark.long] if LONG else []
"""The `pytestmark` of a module whose tests have a short form and a long one: each target selects its own."""
