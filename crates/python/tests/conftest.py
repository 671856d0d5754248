"""Settings of all tests in this folder."""

import os

# Threads that wait for each other do not spin, because other tests need the processors.
# PyTorch reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
