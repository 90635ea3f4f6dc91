"""Crawls as they are found: rows that cannot be used, captions, odd labels, odd names, leftovers, odd files."""

import json
import os
import shutil
import socket
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmcl.pipeline.crawl.manifest import ColumnSettings, Listing, read_crawl
from nmcl.pipeline.crawl.watch import watched_crawls
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.records import Entry
from nmcl.pipeline.stages.ingest import IngestSettings, ingest
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import decode

AUTO = ColumnSettings()


def crawl(folder: Path, *files: str, **manifests: str) -> Path:
    """A crawl folder with these files and, by suffix, its manifest."""
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    for suffix, text in manifests.items():
        (folder / f"manifest.{suffix}").write_text(text, encoding="utf-8")
    return folder


def sidecar(folder: Path, name: str, **info: object) -> None:
    (folder / f"{name}.info.json").write_text(json.dumps(info))


def read(folder: Path, **columns: str) -> Listing:
    return read_crawl(folder, ColumnSettings(**columns))


def paths(folder: Path) -> list[str]:
    return [entry.path for entry in read(folder).entries]


def notes(folder: Path) -> str:
    return "\n".join(read(folder).notes)


class TestRejectedRows:
    def many(self, folder: Path, n_good: int, n_bad: int) -> Path:
        rows = [f"{i}.mp4" for i in range(n_good)] + ["/x.mp4"] * n_bad
        return crawl(folder, "0.mp4", csv="path\n" + "\n".join(rows))

    def test_twenty_are_never_too_many(self, tmp_path: Path) -> None:
        listing = read(self.many(tmp_path, 1, 20))
        assert (len(listing.entries), len(listing.rejected)) == (1, 20)

    def test_one_percent_is_not_too_many(self, tmp_path: Path) -> None:
        assert len(read(self.many(tmp_path, 2079, 21)).rejected) == 21
        with pytest.raises(CrawlError, match=r"has 21 rows that cannot be used:\n  manifest.csv, line 2080: ") as error:
            read(self.many(tmp_path, 2078, 21))
        assert str(error.value).count("is absolute") == 10
        assert "with --set ingest.max_rejected_share=1" in str(error.value)

    def test_all_are_too_many(self, tmp_path: Path) -> None:
        with pytest.raises(CrawlError, match="has 1 row that cannot be used"):
            read(self.many(tmp_path, 0, 1))

    def test_the_store_lists_them_until_they_are_gone(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path / "crawl", "a.mp4", "b.mp4", csv="id,path\n1,a.mp4\n1,b.mp4\n3,../c.mp4\n4\n")
        store = Store.create(tmp_path / "out")
        catalogue = ingest(store, folder, AUTO, IngestSettings())
        assert catalogue.n_videos == 1
        assert "videos/rejected-crawl.parquet" in catalogue.crawls[0].notes[-1]
        rows = decode(store.read("videos/rejected-crawl.parquet"), "rejected").to_pylist()
        assert [(row["line"], row["video_id"], row["path"]) for row in rows] == [
            (3, "1", "b.mp4"),
            (4, "3", "../c.mp4"),
            (5, None, None),
        ]
        assert rows[0]["problem"] == "id '1' is already on line 2; expected one row each"
        (folder / "manifest.csv").write_text("id,path\n1,a.mp4\n2,b.mp4\n")
        assert ingest(store, folder, AUTO, IngestSettings()).n_videos == 2
        assert not store.exists("videos/rejected-crawl.parquet")

    def test_the_share_is_a_setting(self, tmp_path: Path) -> None:
        folder, store = self.many(tmp_path / "crawl", 100, 30), Store.create(tmp_path / "out")
        with pytest.raises(CrawlError, match="has 30 rows"):
            ingest(store, folder, AUTO, IngestSettings())
        assert ingest(store, folder, AUTO, IngestSettings(max_rejected_share=0.5)).n_videos == 100


class TestCaptions:
    def test_rows_of_one_file_and_label_are_joined(self, tmp_path: Path) -> None:
        text = "path,text,venue\na.mp4,one,sea\nb.mp4,x,\n./a.mp4,two,\na.mp4,one,sea\nb.mp4,,park\n"
        listing = read(crawl(tmp_path, "a.mp4", "b.mp4", csv=text))
        assert listing.entries == (Entry("a", "a.mp4", "one\ntwo", "sea"), Entry("b", "b.mp4", "x", "park"))
        assert listing.n_joined == 3
        assert "Joined 3 more rows of 2 videos with the first of the same file." in listing.notes

    def test_each_caption_has_an_id_of_its_own(self, tmp_path: Path) -> None:
        text = "id,path,text\ns1,a.mp4,one\ns2,a.mp4,two\ns3,b.mp4,three\n"
        listing = read(crawl(tmp_path, "a.mp4", "b.mp4", csv=text))
        assert [(e.video_id, e.description) for e in listing.entries] == [("s1", "one\ntwo"), ("s3", "three")]
        assert any("Their ids are ignored; the first id of each file is used: 's2'" in note for note in listing.notes)

    def test_a_list(self, tmp_path: Path) -> None:
        rows = [
            {"path": "a.mp4", "captions": ["one", "two", "one", None, "nan", 3]},
            {"path": "b.mp4", "captions": []},
            {"path": "c.mp4", "captions": [["nested"]]},
            {"path": "d.mp4", "captions": {"en": "x"}},
        ]
        listing = read(crawl(tmp_path, "a.mp4", jsonl="\n".join(map(json.dumps, rows))))
        assert [e.description for e in listing.entries] == ["one\ntwo\n3", None]
        assert [row.problem for row in listing.rejected] == [
            "the text is ['nested'], a list; expected text",
            "the text is {'en': 'x'}, a dict; expected text",
        ]

    def test_many_of_one_video(self, tmp_path: Path) -> None:
        text = "path,text\n" + "".join(f"a.mp4,caption {i}\n" for i in range(50_000))
        (entry,) = read(crawl(tmp_path, "a.mp4", csv=text)).entries
        assert entry.description is not None
        assert entry.description.count("\n") == 49_999


class TestText:
    @pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "None", "N/A", "<NA>", "#N/A", "\\N", " null "])
    def test_words_that_mean_nothing(self, tmp_path: Path, word: str) -> None:
        text = f"path,description,title,venue,split\na.mp4,{word},{word},{word},{word}\n{word},x,,,\n"
        listing = read(crawl(tmp_path, "a.mp4", csv=text))
        assert listing.entries == (Entry("a", "a.mp4"),)
        assert listing.rejected[0].problem == f"the path is {word.strip()!r}, which means empty"

    def test_a_file_of_such_a_name_is_there_all_the_same(self, tmp_path: Path) -> None:
        assert paths(crawl(tmp_path, "null.mp4", csv="id\nnull\n")) == ["null.mp4"]

    def test_the_words_are_a_setting(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path / "crawl", "a.mp4", "b.mp4", csv="path,text\na.mp4,Nan\nb.mp4,TBD\n")
        catalogue = ingest(Store.create(tmp_path / "out"), folder, AUTO, IngestSettings(absent=("tbd",)))
        videos = catalogue.videos(Store.open(tmp_path / "out"))
        assert [video.description for video in videos] == ["Nan", None]

    def test_an_empty_text_falls_back_to_the_title(self, tmp_path: Path) -> None:
        text = "path,description,Title\na.mp4,,A dog\nb.mp4,Words,A cat\nc.mp4,nan,\n"
        listing = read(crawl(tmp_path, "a.mp4", csv=text))
        assert [e.description for e in listing.entries] == ["A dog", "Words", None]
        assert listing.notes[0] == "Read manifest.csv: path from 'path', text from 'description', title from 'Title'."
        assert "may both be" not in notes(tmp_path)
        assert [e.description for e in read(tmp_path, title="").entries] == [None, "Words", None]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
            ("&amp;lt;", "&lt;"),
            ("caf&eacute; &#127754; &#x1F30A;", "café 🌊 🌊"),
            ("a&copy=1 AT&T &nosuch; &", "a&copy=1 AT&T &nosuch; &"),
            ("&#0;&#xD800;&#x1b;x", "\ufffd\ufffdx"),
            ("&nbsp;", None),
        ],
    )
    def test_entities(self, tmp_path: Path, text: str, expected: str | None) -> None:
        rows = [{"path": "a.mp4", "text": text, "venue": text}, {"path": "b.mp4", "title": text}]
        first, second = read(crawl(tmp_path, "a.mp4", jsonl="\n".join(map(json.dumps, rows)))).entries
        assert (first.description, first.venue, second.description) == (expected, expected, expected)
        (tmp_path / "manifest.jsonl").unlink()
        sidecar(tmp_path, "a", description=text, location=text)
        assert read(tmp_path).entries == (Entry("a", "a.mp4", expected, expected),)


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            (["3", "4"], "2 that look like numbers, such as '3', '4'"),
            (["park|sea", "gym"], "1 that look like several in one, such as 'park|sea'"),
            (["#park #sea", "#gym"], "1 that look like several in one, such as '#park #sea'"),
            (["\"['park', 'sea']\""], "1 that look like several in one"),
            (['"park,sea"', "park", "sea"], "1 that look like several in one, such as 'park,sea'"),
            (["1", "a;b"], "1 that look like numbers, such as '1' and 1 that look like several in one, such as 'a;b'"),
        ],
    )
    def test_odd_ones_get_one_note(self, tmp_path: Path, labels: list[str], said: str) -> None:
        text = "path,place\n" + "".join(f"{i}.mp4,{label}\n" for i, label in enumerate(labels))
        found = [note for note in read(crawl(tmp_path, "0.mp4", csv=text)).notes if note.startswith("Labels in")]
        assert len(found) == 1
        assert found[0].startswith(f"Labels in column 'place' of manifest.csv: {said}")
        assert "treated as one class" in found[0]

    def test_usual_ones_get_none(self, tmp_path: Path) -> None:
        text = 'path,place\n0.mp4,"Arts, Crafts & Hobbies"\n1.mp4,College / Gym\n2.mp4,7-eleven\n3.mp4,#beach\n'
        assert "Labels in" not in notes(crawl(tmp_path, "0.mp4", csv=text))


class TestNames:
    def test_case_and_form(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path, "in/A.MP4", "cafe\u0301.mp4", csv="path\nIN/a.mp4\nCAFÉ.mp4\n")
        assert paths(folder) == ["in/A.MP4", "cafe\u0301.mp4"]
        assert "Found by names with different case or Unicode form: 2" in notes(folder)

    def test_several_that_it_may_be(self, tmp_path: Path) -> None:
        listing = read(crawl(tmp_path, "a.MP4", "A.mp4", "b.mp4", csv="path\na.mp4\nb.mp4\n"))
        assert [e.path for e in listing.entries] == ["b.mp4"]
        assert "'a.mp4' matches 'A.mp4', 'a.MP4'" in listing.rejected[0].problem

    def test_no_file_is_taken_from_the_row_that_names_it(self, tmp_path: Path) -> None:
        """Ids of YouTube differ in case."""
        listing = read(crawl(tmp_path, "abC.mp4", csv="id,venue\nABC,sea\nabC,park\n"))
        assert listing.entries == (Entry("abC", "abC.mp4", None, "park"),)
        assert "has the label 'sea' here and 'park' on line 3" in listing.rejected[0].problem


class TestLeftovers:
    def test_merged_streams_are_left_out(self, tmp_path: Path) -> None:
        names = ["t [id1].mkv", "t [id1].f137.mp4", "t [id1].f251.webm", "t [id1].f140.m4a", "t [id1].fhls-720.mp4"]
        folder = crawl(tmp_path, *names, "t [id1].temp.mp4", "u.mp4.part", "u.mp4.part-Frag3", "u.mp4.ytdl")
        sidecar(folder, "t [id1]", id="id1", description="x")
        assert read(folder).entries == (Entry("id1", "t [id1].mkv", "x"),)
        assert "Skipped streams that yt-dlp has merged (4): 't [id1].f137.mp4'" in notes(folder)
        assert "Skipped partial downloads (4)" in notes(folder)

    def test_a_stream_that_the_manifest_names_is_not_said_to_be_left_out(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path, "t.mp4", "t.f137.mp4", "t.f140.m4a", csv="path\nt.f137.mp4\nt.mp4\n")
        listing = read(folder)
        assert [entry.path for entry in listing.entries] == ["t.f137.mp4", "t.mp4"]
        assert "Skipped streams that yt-dlp has merged (1): 't.f140.m4a'." in listing.notes

    def test_a_file_of_a_rejected_row_is_named(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path, "a.mp4", "b.mp4", "c.mp4", csv="id,path\n1,a.mp4\n1,b.mp4\n")
        assert "Skipped 1 video file that manifest.csv does not name: 'c.mp4'." in read(folder).notes

    def test_a_stream_that_was_never_merged_is_all_there_is(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path, "t.f137.mp4")
        sidecar(folder, "t", id="id1", description="x")
        assert read(folder).entries == (Entry("id1", "t.f137.mp4", "x"),)

    @pytest.mark.parametrize("name", ["clip.f1.mp4", "clip.final.mp4", "f137.mp4"])
    def test_names_that_only_look_alike(self, tmp_path: Path, name: str) -> None:
        assert paths(crawl(tmp_path, name, "other.mp4")) == [name, "other.mp4"]

    def test_a_word_is_no_format(self, tmp_path: Path) -> None:
        assert paths(crawl(tmp_path, "clip.mp4", "clip.final.mp4")) == ["clip.final.mp4", "clip.mp4"]

    def test_a_manifest_may_name_one(self, tmp_path: Path) -> None:
        assert paths(crawl(tmp_path, "t.mp4", "t.f137.mp4", csv="path\nt.f137.mp4\n")) == ["t.f137.mp4"]


ANIMATED = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(20)
STILL = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00" + bytes(20)


class TestSoundAndAnimations:
    @pytest.mark.parametrize("name", ["a.m4a", "a.MP3", "a.wav", "a.ogg", "a.opus", "a.flac", "a.aac", "a.mka"])
    def test_a_sidecar_or_a_manifest_makes_it_a_video(self, tmp_path: Path, name: str) -> None:
        folder = crawl(tmp_path, name, "b.mp4")
        assert paths(folder) == ["b.mp4"]
        assert f"Skipped 1 sound file or animation that no manifest or sidecar names: {name!r}" in notes(folder)
        sidecar(folder, "a", description="x")
        assert read(folder).entries == (Entry("a", name, "x"), Entry("b", "b.mp4"))
        crawl(folder, csv="id\na\n")
        assert paths(folder) == [name]

    def test_none_beside_a_video(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path, "a.mp4", "a.m4a", "a.webp", "a.gif")
        sidecar(folder, "a", description="x")
        assert paths(folder) == ["a.mp4"]
        assert paths(crawl(folder, csv="id\na\n")) == ["a.mp4"]

    def test_animations_but_no_thumbnails(self, tmp_path: Path) -> None:
        contents = {"a.webp": ANIMATED, "b.webp": STILL, "c.gif": b"GIF89a" + bytes(20) + b"\x21\xff\x0bNETSCAPE2.0"}
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            sidecar(tmp_path, name[0], description=name)
        assert paths(tmp_path) == ["a.webp", "c.gif"]
        assert paths(crawl(tmp_path, csv="path\nb.webp\n")) == ["b.webp"]


class TestParquet:
    def only(self, folder: Path, **columns: pa.Array) -> Listing:
        crawl(folder, "a.mp4", "1.mp4")
        n = len(next(iter(columns.values())))
        pq.write_table(
            pa.table({"path": ["a.mp4", *(f"{i}.mp4" for i in range(1, n))], **columns}), folder / "m.parquet"
        )
        return read(folder)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (pa.array([7, None], pa.uint64()), "7"),
            (pa.array([7.5, None], pa.float32()), "7.5"),
            (pa.array([Decimal("7.00"), None]), "7"),
            (pa.array([Decimal("7.25"), None], pa.decimal256(60, 2)), "7.25"),
            (pa.array([True, None]), "True"),
            (pa.array(["x", None]).dictionary_encode(), "x"),
            (pa.array(["x", None], pa.large_string()), "x"),
            (pa.array(["x", None], pa.string_view()), "x"),
            (pa.array([b"x", None], pa.binary_view()), "x"),
            (pa.array([b"caf\xc3\xa9", None]), "café"),
            (pa.array([b"x", None], pa.binary(1)), "x"),
            (pa.array([None, None]), None),
            (pa.array([date(2020, 1, 2), None]), "2020-01-02"),
            (pa.array([datetime(2020, 1, 2, 3, 4, 5), None], pa.timestamp("us")), "2020-01-02 03:04:05.000000"),
            (pa.array([2**62, None], pa.timestamp("ns")), "2116-02-20 23:53:38.427387904"),
            (pa.array([10**17, None], pa.timestamp("ms")), None),
            (pa.array([time(1, 2), None]), "01:02:00.000000"),
            (pa.array([timedelta(seconds=3), None]), "0:00:03"),
        ],
    )
    def test_types_that_are_read(self, tmp_path: Path, values: pa.Array, expected: str | None) -> None:
        listing = self.only(tmp_path, venue=values, text=values)
        read_rows = {entry.path: (entry.venue, entry.description) for entry in listing.entries}
        assert read_rows.get("a.mp4", (None, None)) == (expected, expected)
        assert len(listing.entries) + len(listing.rejected) == 2

    @pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda of: pa.list_(of, 2), pa.list_view])
    def test_lists_of_captions(self, tmp_path: Path, kind: object) -> None:
        texts = pa.array([["one", "two"]], kind(pa.string()))  # type: ignore[operator]
        assert self.only(tmp_path, text=texts).entries == (Entry("a", "a.mp4", "one\ntwo"),)

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("venue", pa.array([{"name": "x"}])),
            ("venue", pa.array([["x"]])),
            ("text", pa.array([[["x"]]])),
            ("split", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))),
            ("text", pa.array([[{"caption": "x"}]])),
        ],
    )
    def test_types_that_are_not(self, tmp_path: Path, field: str, values: pa.Array) -> None:
        with pytest.raises(
            CrawlError, match=rf"^m.parquet: column '{field}', used as the \w+, contains .*NAME"
        ) as error:
            self.only(tmp_path, **{field: values})
        assert "\n" not in str(error.value)

    def test_a_name_with_a_dot(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4")
        pq.write_table(pa.table({"path": ["a.mp4"], "meta.venue": ["sea"]}), tmp_path / "m.parquet")
        assert read(tmp_path, label="meta.venue").entries[0].venue == "sea"


class TestKeysOfSidecars:
    def folder(self, tmp_path: Path) -> Path:
        folder = crawl(tmp_path, "a.mp4", "b.mp4")
        sidecar(
            folder, "a", id="1", description="d", uploader={"place": "Sea"}, caption=["x", "y"], key=12, kinds=["K"]
        )
        sidecar(folder, "b", id="2", title="t", description="d")
        return folder

    def test_without_a_manifest(self, tmp_path: Path) -> None:
        listing = read(self.folder(tmp_path), label="uploader.place", text="caption", id="key")
        assert listing.entries == (Entry("12", "a.mp4", "x\ny", "Sea"), Entry("b", "b.mp4", "t"))
        assert read(tmp_path, label="kinds").entries[0].venue == "K"

    def test_with_a_manifest_that_has_no_such_column(self, tmp_path: Path) -> None:
        folder = crawl(self.folder(tmp_path), csv="path,text\na.mp4,from the manifest\n")
        assert read(folder, label="uploader.place", id="key").entries == (
            Entry("12", "a.mp4", "from the manifest", "Sea"),
        )

    def test_a_name_that_is_nowhere(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        with pytest.raises(
            CrawlError, match=r"None of the 2 sidecars has a key 'plaec', the value of columns.label.*'uploader'"
        ):
            read(folder, label="plaec")
        crawl(folder, csv="path,text\na.mp4,x\n")
        with pytest.raises(CrawlError, match=r"no column 'plaec'.*Its columns: 'path', 'text'\. Keys.*'uploader'"):
            read(folder, label="plaec")

    def test_bare_files_have_no_keys(self, tmp_path: Path) -> None:
        listing = read(crawl(tmp_path, "a.mp4"), label="place")
        assert any("were not used" in note for note in listing.notes)


class TestBigSidecars:
    def write(self, folder: Path, comments: str) -> Path:
        crawl(folder, "a.mp4")
        before, after = '{"id": "x", "description": "first &amp; ', 'last", "tags": ["t"], "location": {"name": "Sea"}}'
        (folder / "a.info.json").write_text(
            before + after[: after.index('"')] + f'", {comments}, ' + after[after.index(', "') + 2 :]
        )
        return folder

    @pytest.mark.parametrize(
        "comments",
        [
            '"comments": [' + ", ".join(['{"text": "' + "x" * 1000 + '", "n": 1.5}'] * 40_000) + "]",
            '"n": ' + "9" * 5000,
            '"deep": ' + "[" * 100_000 + "]" * 100_000,
            '"n": [NaN, Infinity], "raw": "\t\n"',
            '"id": "y", "id": "x"',
        ],
        ids=["40 MB", "a number of 5,000 digits", "nested deeply", "not quite JSON", "a key twice"],
    )
    def test_they_are_read(self, tmp_path: Path, comments: str) -> None:
        assert read(self.write(tmp_path, comments)).entries == (Entry("x", "a.mp4", "first & last #t", "Sea"),)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        crawl(tmp_path, "a.mp4")
        (tmp_path / "a.info.json").write_bytes('{"description": "日本"}'.encode(encoding))
        assert read(tmp_path).entries[0].description == "日本"

    def test_a_wrong_byte_costs_no_more_than_itself(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4")
        (tmp_path / "a.info.json").write_bytes(b'{"description": "caf\xe9", "id": "x"}')
        assert read(tmp_path).entries == (Entry("x", "a.mp4", "caf\ufffd"),)

    def test_many_tags(self, tmp_path: Path) -> None:
        sidecar(crawl(tmp_path, "a.mp4"), "a", tags=[f"t{i}" for i in range(200_000)])
        (entry,) = read(tmp_path).entries
        assert entry.description is not None
        assert entry.description.endswith(" #t199999")


class TestOddFiles:
    def test_pipes_sockets_devices_and_loops(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path / "c", "a.mp4")
        os.mkfifo(folder / "pipe.mp4")
        os.mkfifo(folder / "a.info.json")
        os.mkfifo(folder / "other.csv")
        (folder / "loop.mp4").symlink_to("loop.mp4")
        (folder / "loop").symlink_to(".")
        (folder / "null.mp4").symlink_to("/dev/null")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(folder / "s.mp4"))
            assert paths(folder) == ["a.mp4"]
            assert "Skipped pipes, sockets and devices (4)" in notes(folder)
            crawl(folder, csv="path\na.mp4\npipe.mp4\ns.mp4\nnull.mp4\nloop.mp4\n")
            catalogue = ingest(Store.create(tmp_path / "out"), folder, AUTO, IngestSettings())
        assert catalogue.n_videos == 2
        problems = [row.problem for row in read(folder).rejected]
        assert ["not a file" in problem for problem in problems] == [True, True, False]

    def test_a_pipe_in_place_of_a_known_file(self, tmp_path: Path) -> None:
        """Nothing waits for a writer that never comes."""
        from nmcl.pipeline.crawl.source import crawl_source

        os.mkfifo(tmp_path / "a.mp4")
        source = crawl_source(tmp_path)
        assert source.stat("a.mp4") is None
        with pytest.raises(OSError, match="not a regular file"):
            source.open("a.mp4")

    def test_paths_that_no_system_takes(self, tmp_path: Path) -> None:
        assert len(paths(crawl(tmp_path, "a.mp4", csv=f"path\na.mp4\n{'a/' * 50_000}b.mp4\n"))) == 2

    def test_folders_that_land(self, tmp_path: Path) -> None:
        crawl(tmp_path / "crawl", "a.mp4")
        os.mkfifo(tmp_path / "crawl" / "pipe")
        (tmp_path / "crawl" / "loop").symlink_to(".")
        (tmp_path / "pipes").mkdir()
        os.mkfifo(tmp_path / "pipes" / "pipe.mp4")
        assert [crawl.folder.name for crawl in watched_crawls(tmp_path)] == ["crawl"]


class TestInputsThatFailed:
    @pytest.fixture
    def failing(self, shared: Path) -> Path:
        if not (shared / "media" / "failing").is_dir():
            pytest.skip("the inputs that failed are not beside the repository")
        return shared / "media" / "failing"

    def test_manifest_nan(self, failing: Path) -> None:
        assert read(failing / "manifest_nan").entries == (
            Entry("a", "a.mp4", None, "park"),
            Entry("b", "b.mp4", None, "pub"),
        )

    def test_one_bad_row(self, failing: Path) -> None:
        listing = read(failing / "manifest_one_bad_row")
        assert listing.entries == (Entry("a", "a.mp4", "x", "park"),)
        assert [(row.line, row.problem) for row in listing.rejected] == [(3, "the path is empty")]

    def test_leftovers(self, failing: Path) -> None:
        assert read(failing / "ytdlp_leftovers").entries == (Entry("id1", "t [id1].mp4", "x"),)
        assert "'t [id1].f137.mp4'" in notes(failing / "ytdlp_leftovers")

    def test_sound_and_text(self, failing: Path, tmp_path: Path) -> None:
        for path in failing.glob("no_picture*"):
            shutil.copy(path, tmp_path)
        (entry,) = read(tmp_path).entries
        assert entry.description == "a sunny day at the beach with waves"
