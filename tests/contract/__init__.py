"""What every server of a kind has to do, said once; the suites that start the servers run it."""

import pytest

# They are no test modules themselves, and their assertions should tell as much.
pytest.register_assert_rewrite("tests.contract.thinker_contract")
