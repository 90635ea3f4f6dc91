"""Who does what, when and where: Prefect flows, settings, the embedded server and the command line."""

import os

# Threads that wait should soon sleep: spinning ones take the cores from the decoding processes, and a training step
# beside them took twenty times as long. Yet to sleep at once costs small products half their speed: 10,000 turns, some
# microseconds, bridge the gaps between them. OpenMP (torch's is GNU's) reads this when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
