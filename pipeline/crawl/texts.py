"""Texts about the videos of a crawl beside their descriptions: titles and tags of manifests or sidecars, subtitles."""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal

from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.crawl.files import CrawlFiles
from nmcl.pipeline.crawl.manifest import ABSENT, read_column
from nmcl.pipeline.crawl.sidecars import SidecarReader
from nmcl.pipeline.crawl.source import CrawlSource
from nmcl.pipeline.crawl.subtitles import MAX_BYTES, SubtitleError, SubtitleSettings, by_preference, parse
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.os_errors import is_transient, translated
from nmcl.pipeline.records import FoundText

CrawlText = Literal["title", "tags", "subtitles"]
"""Source of text that is read from the files of a crawl."""
ReadTexts = Callable[[Sequence[str]], list[FoundText]]
"""Function that returns the texts of the videos at these paths."""

CODE_VERSION = 1
"""Version of the code, part of the address of texts; raise it when the same files give other texts."""
READ_AT_A_TIME = 8
"""Subtitle files that are read at the same time, because each waits for an object store."""


@contextmanager
def text_reader(
    source: CrawlSource,
    what: CrawlText,
    columns: ColumnSettings,
    subtitles: SubtitleSettings,
    absent: Collection[str] = ABSENT,
) -> Iterator[ReadTexts]:
    """Yield a function that reads one kind of text of a crawl's videos.

    Args:
        columns: Names of manifest columns.
        subtitles: Which subtitles are preferred.
        absent: Words that mean that there is no title or tag, in any case.

    Raises:
        CrawlError: If the crawl is missing, or its manifest cannot be used.
    """
    if what == "subtitles":
        with source.files(with_content=False) as files, ThreadPoolExecutor(READ_AT_A_TIME) as pool:
            yield lambda paths: list(pool.map(lambda path: _subtitles(source, files, path, subtitles), paths))
        return
    with source.files() as files:
        of_manifest = read_column(files, columns, what, absent)
        sidecars = SidecarReader(files, absent=frozenset(word.lower() for word in absent))
        beside = sidecars.title if what == "title" else sidecars.tags
        yield lambda paths: [FoundText(beside(p) if of_manifest is None else of_manifest.get(p)) for p in paths]


def _subtitles(source: CrawlSource, files: CrawlFiles, video: str, settings: SubtitleSettings) -> FoundText:
    """Return the text of the preferred subtitle file that can be read; raise StoreError if the crawl cannot be read."""
    problems = []
    for path in by_preference(files.subtitles(video), settings.languages):
        try:
            with translated(f"{source.address}/{path}", "read"), source.open(path) as file:
                lines = parse(file.read(MAX_BYTES + 1))
        except SubtitleError as error:
            problems.append(f"{path} {error}")
        except (FileNotFoundError, StoreError) as error:
            if is_transient(error):
                raise
            problems.append(f"{path} cannot be opened")
        else:
            return FoundText(" ".join(line.text for line in lines) or None, lines, path)
    return FoundText(remark="; ".join(problems) or None)
