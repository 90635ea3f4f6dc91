"""Videos found by what a user has in hand."""

from pathlib import Path

import pytest

from nmcl.flows.run.stored import all_videos, find_video
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, Crawl, load_catalogue, make_part, save_catalogue
from nmcl.pipeline.storage.store import Store
from tests.flows.run.earlier import unpacked


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return unpacked(tmp_path)


def test_a_video_by_each_of_its_names(store: Store) -> None:
    known = list(all_videos(store, load_catalogue(store)))
    for stored in known[::17]:
        video = stored.video
        for name in (video.video_id, f"monday/{video.video_id}", video.path, video.sha256, video.sha256[:12].upper()):
            assert find_video(store, name).video.sha256 == video.sha256, name
        assert find_video(store, video.path) == stored


def test_its_file_wherever_it_is(store: Store, tmp_path: Path) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    (crawl / "a.mp4").write_bytes(b"one")
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # sha256sum of the three bytes
    part = make_part(store, [Video("x", "other", "a.mp4", digest, 3, None, None, None, None)])
    known = load_catalogue(store)
    save_catalogue(store, known.with_crawl(Crawl("other", str(crawl), (part,), ())), TRAINING)
    assert find_video(store, str(crawl / "a.mp4")).name == "other/x"
    (crawl / "a.mp4").rename(tmp_path / "b.mp4")
    assert find_video(store, str(tmp_path / "b.mp4")).name == "other/x"
    (tmp_path / "c.mp4").write_bytes(b"two")
    with pytest.raises(UserError, match="Its bytes are not those of any ingested video"):
        find_video(store, str(tmp_path / "c.mp4"))


def test_an_ambiguous_name_lists_some(store: Store) -> None:
    with pytest.raises(UserError, match=r"match v00: monday/v0000, monday/v0001, monday/v0002 and others\. Give"):
        find_video(store, "v00")
    with pytest.raises(UserError, match="There is no video nothing"):
        find_video(store, "nothing")
    videos = [Video("v0003", "tuesday", "a.mp4", "ab" * 32, 3, None, None, None, None)]
    crawl = Crawl("tuesday", "/srv/tuesday", (make_part(store, videos),), ())
    save_catalogue(store, Catalogue((*load_catalogue(store).crawls, crawl)), TRAINING)
    with pytest.raises(UserError, match=r"monday/v0003, tuesday/v0003\. Give CRAWL/ID"):
        find_video(store, "v0003")
    assert find_video(store, "tuesday/v0003").video == videos[0]


def test_predicted_crawls_come_last(store: Store) -> None:
    videos = [Video("new", "wednesday", "new.mp4", "cd" * 32, 3, None, None, None, None)]
    crawl = Crawl("wednesday", "/srv/wednesday", (make_part(store, videos),), ())
    save_catalogue(store, Catalogue((crawl,)), "predicted/wednesday-12345678.json")
    assert find_video(store, "new").catalogue == "predicted/wednesday-12345678.json"
