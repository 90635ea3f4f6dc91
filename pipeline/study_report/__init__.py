"""The tables, figures and page of a comparative study: `write_study(StudyData(...), folder)`."""

from pathlib import Path

from pipeline.study_report.data import (
    FUSED,
    AbsenceScores,
    AttentionMemory,
    CompleterScores,
    CompletionLevel,
    EpochScores,
    GatePoint,
    MethodRow,
    RelationExample,
    Rows,
    ScoreRow,
    Spread,
    StudyData,
    Trial,
)
from pipeline.study_report.figures import figures
from pipeline.study_report.page import page
from pipeline.study_report.tables import tables

__all__ = [
    "FUSED",
    "AbsenceScores",
    "AttentionMemory",
    "CompleterScores",
    "CompletionLevel",
    "EpochScores",
    "GatePoint",
    "MethodRow",
    "RelationExample",
    "Rows",
    "ScoreRow",
    "Spread",
    "StudyData",
    "Trial",
    "write_study",
]


def write_study(data: StudyData, folder: Path) -> None:
    """Write `tables/*.md`, `tables/*.csv`, `figures/*.svg`, `figures/*.png` and at last `report.html`.

    The folder is made if it is not there; files of the same name are replaced, others are left.
    """
    drawn, listed = list(figures(data)), list(tables(data))
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    for table in listed:
        (folder / "tables" / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8", newline="\n")
        (folder / "tables" / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8", newline="\n")
    for drawing in drawn:
        (folder / "figures" / f"{drawing.name}.svg").write_bytes(drawing.svg())
        (folder / "figures" / f"{drawing.name}.png").write_bytes(drawing.png())
    (folder / "report.html").write_text(page(data, listed, drawn), encoding="utf-8", newline="\n")
