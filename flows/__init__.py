"""Who does what, when and where: Prefect flows, settings, the embedded server and the command line."""

import os

# Threads that wait should sleep: spinning ones take the cores from the decoding processes, and a training step beside
# them took twenty times as long. OpenMP reads this when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
