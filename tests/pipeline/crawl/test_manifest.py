import csv
import json
import os
import tempfile
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmcl.pipeline.crawl.manifest import ColumnSettings, Listing, read_crawl
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.records import Entry

SHARED = Path(__file__).parents[4] / "shared" / "crawls"
AUTO = ColumnSettings()


def crawl(folder: Path, *videos: str, **texts: str) -> Path:
    """A crawl folder with these videos and, by suffix, its manifest."""
    folder.mkdir(exist_ok=True)
    for name in videos:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture and sound")
    for suffix, text in texts.items():
        (folder / f"manifest.{suffix}").write_text(text, encoding="utf-8", newline="")
    return folder


def refusal(folder: Path, columns: ColumnSettings = AUTO) -> str:
    with pytest.raises(CrawlError) as error:
        read_crawl(folder, columns)
    return str(error.value)


def rejected(folder: Path, columns: ColumnSettings = AUTO) -> list[str]:
    """Line and problem of each rejected row of a manifest; they are in the notes too."""
    listing = read_crawl(folder, columns)
    found = [f"{row.line}: {row.problem}" for row in listing.rejected]
    for line in found[:3]:
        assert line in notes(listing)
    return found


def notes(listing: Listing) -> str:
    return "\n".join(listing.notes)


class TestForms:
    EXPECTED = (
        Entry("01", "a.mp4", "A dog, running", "Park", "train"),
        Entry("02", "in/b.mp4", None, None, "validation"),
        Entry("03", "gone.mp4", 'He said "hi"\nand left', "Sea", "test"),
    )

    def check(self, folder: Path) -> None:
        listing = read_crawl(crawl(folder, "a.mp4", "in/b.mp4", "extra.webm"), AUTO)
        assert listing.entries == self.EXPECTED
        assert "names 1 file that does not exist: 'gone.mp4'." in notes(listing)
        assert "Skipped 1 video file that manifest" in notes(listing)
        assert "'extra.webm'" in notes(listing)

    def test_csv(self, tmp_path: Path) -> None:
        text = (
            "video_id,video_path,description,venue,split\n"
            '01,a.mp4,"A dog, running", Park ,Train\n'
            "02,in\\b.mp4,,NaN,DEV\n"
            '03,gone.mp4,"He said ""hi""\nand left",Sea,2\n'
        )
        self.check(crawl(tmp_path, csv=text))

    def test_csv_with_semicolons_and_windows_lines(self, tmp_path: Path) -> None:
        text = (
            "VideoID;videoLoc;Caption;Category;Set\r\n"
            "01;a.mp4;A dog, running;Park;training\r\n"
            "02;./in/b.mp4;;;valid\r\n"
            '03;gone.mp4;"He said ""hi""\nand left";Sea;eval\r\n'
            ";;;;\r\n\r\n"
        )
        self.check(crawl(tmp_path, csv=text))

    def test_tsv(self, tmp_path: Path) -> None:
        text = (
            "id\tfile\ttext\tlabel\tmode\n"
            "01\ta.mp4\tA dog, running\tPark\ttrain\n"
            "02\tin/b.mp4\t \tnull\tval\n"
            '03\tgone.mp4\t"He said ""hi""\nand left"\tSea\ttest\n'
        )
        self.check(crawl(tmp_path, tsv=text))

    def test_jsonl(self, tmp_path: Path) -> None:
        rows = [
            {"id": "01", "videos": ["a.mp4"], "text": "A dog, running", "venue": "Park", "split": 0},
            {"id": "02", "videos": "in/b.mp4", "venue": None, "split": "validation"},
            {
                "id": "03",
                "videos": ["gone.mp4"],
                "text": 'He said "hi"\nand left',
                "venue": "Sea",
                "split": "TEST",
            },
        ]
        self.check(crawl(tmp_path, jsonl="\n\n".join(map(json.dumps, rows))))

    def test_parquet(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "clip_id": ["01", "02", "03"],
                "path": ["a.mp4", "in/b.mp4", "gone.mp4"],
                "caption": ["A dog, running", None, 'He said "hi"\nand left'],
                "class": pa.array(["Park", None, "Sea"]).dictionary_encode(),
                "fold": [0.0, 1.0, 2.0],
                "bytes": [b"\xff", b"", b""],
            }
        )
        pq.write_table(table, tmp_path / "manifest.parquet")
        self.check(tmp_path)

    def test_numbers_become_plain_text(self, tmp_path: Path) -> None:
        table = pa.table({"id": [7, 8], "file": ["a.mp4", "b.mp4"], "label": [3.0, None]})
        pq.write_table(table, tmp_path / "manifest.parquet")
        entries = read_crawl(crawl(tmp_path, "a.mp4"), AUTO).entries
        assert [(e.video_id, e.venue) for e in entries] == [("7", "3"), ("8", None)]

    def test_the_only_table_is_the_manifest(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4")
        (tmp_path / "Metadata.CSV").write_text("file_name,text\na.mp4,hello\n")
        listing = read_crawl(tmp_path, AUTO)
        assert listing.entries == (Entry("a", "a.mp4", "hello"),)
        assert "Using Metadata.CSV as the manifest" in notes(listing)

    def test_manifest_goes_before_other_tables(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4", csv="path\na.mp4\n")
        (tmp_path / "features.parquet").write_bytes(b"")
        assert len(read_crawl(tmp_path, AUTO).entries) == 1

    def test_several_manifests(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4", csv="path\na.mp4\n", jsonl="{}")
        assert "2 files that could be its manifest: manifest.csv, manifest.jsonl. Keep one" in refusal(tmp_path)


class TestColumns:
    def test_ids_stand_for_files(self, tmp_path: Path) -> None:
        text = "ID,venue\n007,park\nxYz-1,sea\n9,gym\n"
        listing = read_crawl(crawl(tmp_path, "007.mp4", "deep/A title [xYz-1].webm", csv=text), AUTO)
        assert [(e.video_id, e.path) for e in listing.entries] == [
            ("007", "007.mp4"),
            ("xYz-1", "deep/A title [xYz-1].webm"),
            ("9", "9"),
        ]

    def test_an_id_of_several_files(self, tmp_path: Path) -> None:
        text = refusal(crawl(tmp_path, "1.mp4", "x/1.webm", csv="id\n1\n"))
        assert "manifest.csv, line 2: '1' matches '1.mp4', 'x/1.webm'; add the suffix of the file" in text

    def test_the_first_of_two_labels(self, tmp_path: Path) -> None:
        text = "path,category,Venue\na.mp4,1,park\n"
        listing = read_crawl(crawl(tmp_path, "a.mp4", csv=text), AUTO)
        assert listing.entries[0].venue == "park"
        assert "'Venue' and 'category' may both be the label column; using 'Venue'" in notes(listing)
        assert "--set columns.label=NAME" in notes(listing)

    def test_settings_name_columns(self, tmp_path: Path) -> None:
        text = "Datei|path|Ort\na.mp4|x|Park\n"
        columns = ColumnSettings(path="datei", label="Ort", id="")
        listing = read_crawl(crawl(tmp_path, "a.mp4", csv=text), columns)
        assert listing.entries == (Entry("a", "a.mp4", None, "Park"),)

    def test_a_split_of_numbers_with_gaps(self, tmp_path: Path) -> None:
        listing = read_crawl(crawl(tmp_path, "a.mp4", "b.mp4", csv="path,split\na.mp4,2.0\nb.mp4,\n"), AUTO)
        assert [entry.split for entry in listing.entries] == ["test", None]

    def test_a_cell_of_any_length_and_a_header_with_two_marks(self, tmp_path: Path) -> None:
        text = f"\ufeff\ufeffpath,text\na.mp4,{'word ' * 100_000}\n"
        listing = read_crawl(crawl(tmp_path, "a.mp4", csv=text), AUTO)
        assert listing.entries[0].description == ("word " * 100_000).strip()

    def test_an_empty_name_reads_no_column(self, tmp_path: Path) -> None:
        text = "path,fold\na.mp4,7\n"
        crawl(tmp_path, "a.mp4", csv=text)
        assert "line 2: unknown split '7'; expected train, validation, test" in refusal(tmp_path)
        assert "--set columns.split=''" in refusal(tmp_path)
        assert read_crawl(tmp_path, ColumnSettings(split="")).entries == (Entry("a", "a.mp4"),)

    def test_a_named_column_that_is_not_there(self, tmp_path: Path) -> None:
        text = refusal(crawl(tmp_path, "a.mp4", csv="path,venue\na.mp4,x\n"), ColumnSettings(text="lyrics"))
        assert text == "manifest.csv has no column 'lyrics', the value of columns.text. Its columns: 'path', 'venue'."

    def test_no_column_of_files(self, tmp_path: Path) -> None:
        text = refusal(crawl(tmp_path, "a.mp4", csv="a.mp4,park\nb.mp4,sea\n"))
        assert "Its columns: 'a.mp4', 'park'. Its first line must be a header" in text
        assert "--set columns.path=NAME" in text

    def test_a_column_twice(self, tmp_path: Path) -> None:
        text = refusal(crawl(tmp_path, "a.mp4", csv="path,path\na.mp4,b\n"))
        assert "2 columns named 'path'; rename one" in text


class TestText:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
    def test_encodings(self, tmp_path: Path, encoding: str, suffix: str) -> None:
        crawl(tmp_path, "ä.mp4")
        row = {"csv": "path,text\nä.mp4,日本 🐕\n", "tsv": "path\ttext\nä.mp4\t日本 🐕\n"}
        text = row.get(suffix) or '{"path": "ä.mp4", "text": "日本 🐕"}\n'
        mark = "\ufeff" if encoding[-3:] in ("-le", "-be") else ""
        (tmp_path / f"manifest.{suffix}").write_bytes((mark + text).encode(encoding))
        assert read_crawl(tmp_path, AUTO).entries == (Entry("ä", "ä.mp4", "日本 🐕"),)

    @pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
    @pytest.mark.parametrize("named", ["NFC", "NFD"])
    def test_accents_composed_or_not(self, tmp_path: Path, on_disk: str, named: str) -> None:
        name = unicodedata.normalize(on_disk, "café.mp4")
        crawl(tmp_path, name)
        row = {key: unicodedata.normalize(named, "café") for key in ("text", "venue")}
        row["path"] = unicodedata.normalize(named, "café.mp4")
        crawl(tmp_path, jsonl=json.dumps(row, ensure_ascii=False))
        assert read_crawl(tmp_path, AUTO).entries == (Entry("café", name, "café", "café"),)

    def test_wrong_bytes_are_reported_by_line(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4")
        (tmp_path / "manifest.csv").write_bytes(b"path,text\na.mp4,ok\na.mp4,caf\xe9\n")
        assert rejected(tmp_path) == ["3: the text is not valid UTF-8; save the manifest as UTF-8"]

    def test_utf16_cut_short(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4")
        (tmp_path / "manifest.csv").write_bytes("path,text\na.mp4,ok\na.mp4,abc".encode("utf-16")[:-1])
        assert rejected(tmp_path) == ["3: the text is not valid UTF-8; save the manifest as UTF-8"]

    def test_nul_bytes(self, tmp_path: Path) -> None:
        text = refusal(crawl(tmp_path, "a.mp4", csv="path,venue\na.mp4,pa\0rk\n"))
        assert "manifest.csv, line 2: the label contains a NUL byte" in text

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
    def test_not_a_table_at_all(self, tmp_path: Path, suffix: str) -> None:
        crawl(tmp_path, "a.mp4")
        (tmp_path / f"manifest.{suffix}").write_bytes(bytes(range(256)) * 4)
        assert f"manifest.{suffix}" in refusal(tmp_path)

    def test_text_is_kept_as_is(self, tmp_path: Path) -> None:
        text = 'path,text\na.mp4,"  None of  it\t#Fun "\nb.mp4,nana\n'
        entries = read_crawl(crawl(tmp_path, "a.mp4", "b.mp4", csv=text), AUTO).entries
        assert [e.description for e in entries] == ["None of  it\t#Fun", "nana"]


class TestBadRows:
    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("/etc/passwd", "the path '/etc/passwd' is absolute; expected a path relative"),
            ("C:\\clips\\a.mp4", "is a URL or has a drive letter"),
            ("https://example.org/a.mp4", "is a URL or has a drive letter"),
            ("../a.mp4", "the path '../a.mp4' is outside the crawl folder; expected"),
            ("in/../../a.mp4", "is outside the crawl folder"),
            ("in\\..\\..\\a.mp4", "is outside the crawl folder"),
            ("link.mp4", "is outside the crawl folder, through a link; put the file itself there"),
            ("linked/b.mp4", "is outside the crawl folder, through a link"),
            ("in", "the path 'in' is not a file; expected a video file"),
            (".", "is not a file"),
            ("", "the path is empty"),
        ],
    )
    def test_paths(self, tmp_path: Path, path: str, problem: str) -> None:
        outside = crawl(tmp_path / "outside", "b.mp4")
        folder = crawl(tmp_path / "crawl", "a.mp4", "in/c.mp4", csv=f"path,text\na.mp4,\n{path},x\n")
        (folder / "link.mp4").symlink_to(outside / "b.mp4")
        (folder / "linked").symlink_to(outside)
        (found,) = rejected(folder)
        assert found.startswith("3: ")
        assert problem in found

    def test_links_that_stay_inside_and_roundabout_paths(self, tmp_path: Path) -> None:
        folder = crawl(tmp_path, "in/c.mp4", csv="path\nin/../link.mp4\nlinked/c.mp4\n")
        (folder / "link.mp4").symlink_to("in/c.mp4")
        (folder / "linked").symlink_to("in")
        listing = read_crawl(folder, AUTO)
        assert [e.path for e in listing.entries] == ["link.mp4", "linked/c.mp4"]
        assert "not exist" not in notes(listing)

    def test_names_no_disk_would_take_are_missing(self, tmp_path: Path) -> None:
        text = f"path\na.mp4\n{'x' * 3000}.mp4\nloop.mp4\na.mp4/b.mp4\n"
        folder = crawl(tmp_path, "a.mp4", csv=text)
        (folder / "loop.mp4").symlink_to("loop.mp4")
        assert "names 3 files that do not exist" in notes(read_crawl(folder, AUTO))

    def test_duplicate_ids(self, tmp_path: Path) -> None:
        text = 'video_id,path,text\n1,a.mp4,"two\nlines"\n2,b.mp4,\n1,b.mp4,\n'
        found = rejected(crawl(tmp_path, "a.mp4", "b.mp4", csv=text))
        assert found == ["5: video_id '1' is already on line 2; expected one row each"]

    def test_one_file_twice_with_other_labels(self, tmp_path: Path) -> None:
        text = "path,venue,split\na.mp4,sea,test\n./a.mp4,park,test\na.mp4,,train\n"
        assert rejected(crawl(tmp_path, "a.mp4", csv=text)) == [
            "3: the file 'a.mp4' has the label 'park' here and 'sea' on line 2; the first is used",
            "4: the file 'a.mp4' has the split 'train' here and 'test' on line 2; the first is used",
        ]

    def test_an_empty_id(self, tmp_path: Path) -> None:
        assert "line 2: the id is empty" in refusal(crawl(tmp_path, "a.mp4", csv="id,path\n ,a.mp4\n"))

    def test_number_of_cells(self, tmp_path: Path) -> None:
        found = refusal(crawl(tmp_path, "a.mp4", csv="path,text\na.mp4,a, b\na.mp4\n"))
        assert "manifest.csv has 2 rows that cannot be used" in found
        assert "line 2: 3 cells; the header has 2." in found
        assert "line 3: 1 cells; the header has 2." in found

    def test_a_quote_that_is_not_closed(self, tmp_path: Path) -> None:
        """The rows after it are read all the same."""
        text = 'path,text\na.mp4,ok\nb.mp4,"oh\nc.mp4,x\nd.mp4,"two\nlines"\ne.mp4,"no\n'
        folder = crawl(tmp_path, "a.mp4", csv=text)
        assert [e.path for e in read_crawl(folder, AUTO).entries] == ["a.mp4", "c.mp4", "d.mp4"]
        first, second = rejected(folder)
        assert first.startswith("3: ',' expected after '\"'. Is a quote not closed")
        assert second.startswith("7: unexpected end of data. Is a quote not closed")

    def test_quotes_that_are_never_closed_cost_no_more_than_their_lines(self, tmp_path: Path) -> None:
        """Each begins a row that would go on to the end of the file."""
        text = "path,text\na.mp4,ok\n" + 'x","\n' * 3_000
        found = refusal(crawl(tmp_path, "a.mp4", csv=text))
        assert "manifest.csv has 3,000 rows that cannot be used" in found
        assert "line 3: more than 1,000 lines in a row" in found

    def test_a_cell_without_end(self, tmp_path: Path) -> None:
        found = refusal(crawl(tmp_path, "a.mp4", csv=f"path,text\na.mp4,{'x' * 5_000_000}\n"))
        assert "line 2: field larger than field limit" in found

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ('{"path": "a.mp4"', "is not valid JSON: Expecting ',' delimiter at character 18"),
            ('["a.mp4"]', "expected a JSON object, found ['a.mp4']"),
            ('{"path": "a.mp4", "venue": ["park"]}', "the label is ['park'], a list; expected text"),
            ('{"path": "a.mp4", "venue": {"name": 1}}', "the label is {'name': 1}, a dict; expected text"),
            ('{"path": ["a.mp4", "b.mp4"]}', "the path is ['a.mp4', 'b.mp4'], a list; expected text"),
            ('{"path": "a.mp4", "text": "\\ud800"}', "the text is not valid UTF-8"),
            ('{"path": "a\\u0000.mp4"}', "the path contains a NUL byte"),
            ('{"path": "a.mp4", "x": ' + "9" * 5000 + "}", "an integer of thousands of digits; store it as text"),
            ("[" * 100_000, "is nested too deeply"),
            ('{"venue": "park"}', "the path is empty"),
        ],
    )
    def test_jsonl(self, tmp_path: Path, line: str, problem: str) -> None:
        text = '{"path": "b.mp4", "venue": "sea"}\n\n' + line + '\n{"path": "a.mp4"}\n'
        folder = crawl(tmp_path, "a.mp4", "b.mp4", jsonl=text)
        (found,) = rejected(folder)
        assert found.startswith("3: ")
        assert problem in found
        assert [e.path for e in read_crawl(folder, AUTO).entries] == ["b.mp4", "a.mp4"]

    def test_parquet_rows(self, tmp_path: Path) -> None:
        table = pa.table({"path": ["a.mp4", "b.mp4", None], "id": [1.0, 2.0**60, 3.0]})
        pq.write_table(table, tmp_path / "manifest.parquet")
        second, third = rejected(crawl(tmp_path, "a.mp4"))
        assert second.startswith("2: the id is 1.15")
        assert second.endswith("a floating-point number that has lost digits; store it as text")
        assert third == "3: the path is empty"

    def test_parquet_text_that_is_not_utf8(self, tmp_path: Path) -> None:
        buffers = pa.array([b"a.mp4", b"\xff.mp4", b"b.mp4"]).buffers()
        table = pa.table({"path": pa.StringArray.from_buffers(3, buffers[1], buffers[2])})
        pq.write_table(table, tmp_path / "manifest.parquet")
        assert rejected(crawl(tmp_path, "a.mp4")) == ["2: the path is not valid UTF-8; save the manifest as UTF-8"]
        assert len(read_crawl(tmp_path, AUTO).entries) == 2

    def test_only_the_first_ten_are_shown(self, tmp_path: Path) -> None:
        found = refusal(crawl(tmp_path, "a.mp4", csv="path\n" + "/x.mp4\n" * 25))
        assert found.startswith("manifest.csv has 25 rows that cannot be used:\n  manifest.csv, line 2: ")
        assert found.count("is absolute") == 10
        assert found.endswith("\n  and 15 more\nCorrect or remove them, and run again.")

    def test_no_named_file_exists(self, tmp_path: Path) -> None:
        text = "file,video_id\nx/1.mp4,1\nx/2.mp4,2\nx/3.mp4,3\n"
        found = refusal(crawl(tmp_path, "1.mp4", csv=text))
        assert "none of the 3 files named in column 'file' is in the crawl folder: 'x/1.mp4', 'x/2.mp4'" in found
        assert "--set columns.path=NAME" in found

    @pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
    def test_nothing_in_it(self, tmp_path: Path, suffix: str) -> None:
        crawl(tmp_path, "a.mp4", **{suffix: ""})
        assert f"manifest.{suffix}" in refusal(tmp_path)

    def test_only_a_header(self, tmp_path: Path) -> None:
        found = refusal(crawl(tmp_path, "a.mp4", csv="path,venue\n"))
        assert found == "manifest.csv has a header but no rows. Add one row for each video."


class TestFolders:
    def test_missing_a_file_or_empty(self, tmp_path: Path) -> None:
        assert "There is no folder" in refusal(tmp_path / "gone")
        (tmp_path / "file").write_text("")
        assert "is a file. Give the crawl folder" in refusal(tmp_path / "file")
        (tmp_path / "empty").mkdir()
        assert "is empty. Put videos there" in refusal(tmp_path / "empty")

    def test_no_videos(self, tmp_path: Path) -> None:
        found = refusal(crawl(tmp_path, "readme.txt", "a.mp4.part"))
        assert "looked for manifest.(csv|tsv|jsonl|parquet) there" in found
        assert ".mp4" in found
        assert "Skipped partial downloads (1): 'a.mp4.part'." in found

    def test_bare_files(self, tmp_path: Path) -> None:
        crawl(
            tmp_path,
            "b.MP4",
            "sea/1.mp4",
            "park/1.mp4",
            "park/1.webm",
            "notes.txt",
            ".hidden.mp4",
            ".trash/x.mp4",
        )
        crawl(tmp_path, "half.temp.mp4")
        listing = read_crawl(tmp_path, AUTO)
        assert [(e.video_id, e.path) for e in listing.entries] == [
            ("b", "b.MP4"),
            ("park/1.mp4", "park/1.mp4"),
            ("park/1.webm", "park/1.webm"),
            ("sea/1", "sea/1.mp4"),
        ]
        assert "3 videos share their id with another and are identified by path" in notes(listing)
        assert "partial downloads (1): 'half.temp.mp4'" in notes(listing)

    def test_links_out_of_the_crawl_are_left_out(self, tmp_path: Path) -> None:
        outside = crawl(tmp_path / "outside", "b.mp4")
        folder = crawl(tmp_path / "crawl", "a.mp4")
        (folder / "b.mp4").symlink_to(outside / "b.mp4")
        (folder / "gone.mp4").symlink_to("nowhere.mp4")
        (folder / "again").symlink_to(".")
        listing = read_crawl(folder, AUTO)
        assert [e.path for e in listing.entries] == ["a.mp4"]
        reason = "links that point outside the crawl folder (copy the files there to use them)"
        assert f"{reason} (1): 'b.mp4'" in notes(listing)
        assert "broken links (1): 'gone.mp4'" in notes(listing)
        assert "links to folders, which are not followed (1): 'again'" in notes(listing)

    def test_a_manifest_elsewhere_is_not_read(self, tmp_path: Path) -> None:
        outside = crawl(tmp_path / "outside", csv="path,venue\na.mp4,secret\n")
        folder = crawl(tmp_path / "crawl", "a.mp4")
        (folder / "manifest.csv").symlink_to(outside / "manifest.csv")
        assert read_crawl(folder, AUTO).entries == (Entry("a", "a.mp4"),)

    def test_the_crawl_itself_may_be_a_link(self, tmp_path: Path) -> None:
        crawl(tmp_path / "crawl", "a.mp4", csv="path\na.mp4\n")
        (tmp_path / "link").symlink_to("crawl")
        assert len(read_crawl(tmp_path / "link", AUTO).entries) == 1

    def test_names_that_are_not_unicode(self, tmp_path: Path) -> None:
        crawl(tmp_path, "a.mp4")
        with open(os.fsencode(tmp_path) + b"/\xff.mp4", "wb"):
            pass
        listing = read_crawl(tmp_path, AUTO)
        assert len(listing.entries) == 1
        assert "files whose names are not valid UTF-8" in notes(listing)


words = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=8))
def test_all_formats_read_alike(texts: list[tuple[str | None, str | None]]) -> None:
    rows = [{"path": f"{i}.mp4", "text": text, "venue": venue} for i, (text, venue) in enumerate(texts)]
    found = []
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        with tempfile.TemporaryDirectory() as name:
            folder = crawl(Path(name), "0.mp4")
            write(folder / f"manifest.{suffix}", rows)
            found.append(read_crawl(folder, AUTO).entries)
    assert found[0] == found[1] == found[2] == found[3]
    for entry, (text, _) in zip(found[0], texts, strict=True):
        assert entry.description == (unicodedata.normalize("NFC", (text or "").strip()) or None)


def write(path: Path, rows: list[dict[str, str | None]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]])), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("./\\ab~:"), min_size=1, max_size=12))
def test_no_path_leads_out_of_the_crawl(path: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = crawl(Path(name) / "crawl", "a", "good.mp4")
        (folder / "b").symlink_to("..")
        crawl(folder, jsonl=json.dumps({"path": "good.mp4"}) + "\n" + json.dumps({"path": path}))
        try:
            entries = read_crawl(folder, AUTO).entries
        except CrawlError:
            return
        for entry in entries:
            assert (folder / entry.path).resolve().is_relative_to(folder.resolve())


def test_a_manifest_of_100_000_rows(tmp_path: Path) -> None:
    rows = (f'{i:07},{i:07}.mp4,"A description of some words, {i}",venue {i % 188}\n' for i in range(100_000))
    crawl(tmp_path, "0000000.mp4", csv="video_id,video_path,description,venue\n" + "".join(rows))
    listing = read_crawl(tmp_path, AUTO)
    assert len(listing.entries) == 100_000
    assert listing.entries[-1].video_id == "0099999"


class TestRealCrawls:
    def read(self, name: str) -> Listing:
        if not (SHARED / name).is_dir():
            pytest.skip(f"{SHARED / name} is not there")
        return read_crawl(SHARED / name, AUTO)

    def test_scenes(self) -> None:
        entries = self.read("scenes-a").entries
        assert len(entries) == 480
        assert len({e.venue for e in entries}) == 6
        assert sum(e.description is None for e in entries) == 42

    def test_vines(self) -> None:
        entries = self.read("vines").entries
        assert len(entries) == 8
        assert sum(e.venue is None for e in entries) == 4
        assert entries[1].description == 'This whole "modern art" is some bull shit #centrepompidou #idontgetit'

    def test_web_clips(self) -> None:
        entries = self.read("web-clips").entries
        assert len(entries) == 14
        assert all(e == Entry(Path(e.path).stem, e.path) for e in entries)
