"""Before any module of the suite is imported: its asserts show their values, as a test module's own do."""

import pytest

pytest.register_assert_rewrite("tests.connectors.contract")
