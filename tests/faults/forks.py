"""Commands in forks of one process that has imported everything: a command then takes its own time and no more.

`python -m tests.faults.forks`: each line of stdin is JSON, the words of a command and the file for what it prints; its
exit code is printed when it has ended.
"""

import gc
import json
import os
import sys
from importlib import import_module

IMPORTED = (
    "nmcl.flows.cli.main",
    "nmcl.flows.run.runs",
    "nmcl.flows.cli.summary",
    "nmcl.flows.run.reporting",
    "nmcl.flows.run.predict",
    "torch",
    "gensim.models.doc2vec",
    "librosa.core.audio",
    "openvino",
    "scipy.signal",
    "sklearn",
)


def main() -> None:
    """Serve until stdin ends."""
    for module in IMPORTED:
        import_module(module)
    gc.freeze()  # else every fork collects, and so copies, all that was imported
    print("ready", flush=True)
    for line in sys.stdin:
        words, said = json.loads(line)
        pid = os.fork()
        if not pid:
            do(words, said)
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def do(words: list[str], said: str) -> None:
    """A command in this process, which ends as the command's own would."""
    from nmcl.flows.cli.main import main as nmcl

    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["nmcl", *words]
    nmcl()


if __name__ == "__main__":
    main()
