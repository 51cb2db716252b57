"""What an environment asks of runs is not asked of the tests of the harness itself."""

import os

# Where the tests themselves may be told something.
KEPT = ("E2E_CACHE", "E2E_MODEL_")

for name in [each for each in os.environ if each.startswith("E2E_") and not each.startswith(KEPT)]:
    del os.environ[name]
