"""Work that ends the process it is done in, for `test_engines.py`; run as a script, it is given to an engine.

`python -m tests.flows.deadly ENGINE`: of six parts, part 1 kills its worker once, part 3 every time.
"""

import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from nmcl.flows.engine_settings import EngineSettings
from nmcl.flows.run.parts import Piece
from nmcl.pipeline.errors import WorkerError
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.catalogue import Part


@dataclass(frozen=True)
class Deadly:
    """Remembers in a folder who has died already."""

    folder: str

    def __call__(self, piece: Piece, progress: Progress) -> str:
        time.sleep(0.1)
        flag = Path(self.folder, piece.part.key)
        if piece.part.key == "3" or (piece.part.key == "1" and not flag.exists()):
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        Path(self.folder, f"done-{piece.part.key}").touch()
        return piece.part.key


def main(engine: EngineSettings) -> None:
    """Prints which parts were done, and the error."""
    from prefect import flow

    from nmcl.flows.engine.tasks import each_by

    @flow
    def deadly(folder: str) -> None:
        pieces = [Piece("crawl", "crawl", Part(str(i), "", 2)) for i in range(6)]
        try:
            each_by(engine)("work", Deadly(folder), pieces, lambda *_: None)
        except WorkerError as error:
            print(sorted(path.name for path in Path(folder).glob("done-*")))
            print(error)

    with tempfile.TemporaryDirectory() as folder:
        deadly(folder)


if __name__ == "__main__":
    from tests.flows import deadly

    deadly.main(EngineSettings(name=sys.argv[1], workers=2))  # type: ignore[arg-type]
