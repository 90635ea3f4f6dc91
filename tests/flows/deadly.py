"""Work that ends the process it is done in, for `test_engines.py`; run as a script, it is given to an engine.

`python -m tests.flows.deadly ENGINE prefect|local`: of six parts, part 1 kills its worker once, part 3 every time.
"""

import os
import signal
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from nmcl.flows.engine_settings import EngineSettings
from nmcl.flows.run.parts import MapItems, WorkItem
from nmcl.flows.run.workers import local_map
from nmcl.pipeline.errors import WorkerError
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.catalogue import Part


@dataclass(frozen=True)
class Deadly:
    """Remembers in a folder who has died already."""

    folder: str

    def __call__(self, item: WorkItem, progress: Progress) -> str:
        time.sleep(0.1)
        flag = Path(self.folder, item.part.key)
        if item.part.key == "3" or (item.part.key == "1" and not flag.exists()):
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        Path(self.folder, f"done-{item.part.key}").touch()
        return item.part.key


def main(engine: EngineSettings, prefect: bool) -> None:
    """Prints which parts were done, and the error."""
    if prefect:
        from prefect import flow

        from nmcl.flows.engine.runners import map_by

        @flow
        def as_tasks() -> None:
            deadly(map_by(engine))

        as_tasks()
    else:
        deadly(local_map(engine))


def deadly(workers: AbstractContextManager[MapItems]) -> None:
    items = [WorkItem("crawl", "crawl", Part(str(i), "", 2)) for i in range(6)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            with workers as map_items:
                map_items("work", Deadly(folder), items, lambda *_: None)
        except WorkerError as error:
            print(sorted(path.name for path in Path(folder).glob("done-*")))
            print(error)


if __name__ == "__main__":
    from tests.flows import deadly as module

    module.main(EngineSettings(name=sys.argv[1], workers=2), prefect=sys.argv[2] == "prefect")
