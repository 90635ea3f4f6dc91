"""Orchestration: Prefect flows, settings, the embedded server and the command line."""

import os

# Waiting threads should sleep soon: spinning threads take cores from the decoding processes, and a training step next
# to them took twenty times as long. But sleeping at once halves the speed of small matrix products. 10,000 spins, some
# microseconds, bridge the gaps between them. OpenMP (torch uses GNU's) reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
