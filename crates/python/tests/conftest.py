"""What holds for all tests here."""

import os

# Threads that wait for each other do not spin: other tests have the processors, too.
# It is read when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
