"""Tables, figures and page of a comparative study: `write_study(StudyData(...), folder)`."""

from pathlib import Path

from nmcl.flows.report.study.figures import figures
from nmcl.flows.report.study.page import page
from nmcl.flows.report.study.tables import tables
from nmcl.model.study.results import StudyData
from nmcl.pipeline.os_errors import write_file, writing


def write_study(data: StudyData, folder: Path) -> None:
    """Write `tables/*.md`, `tables/*.csv`, `figures/*.svg`, `figures/*.png` and finally `report.html`.

    The folder is created if it does not exist. Files of the same name are replaced, others are kept.
    """
    drawn, listed = list(figures(data)), list(tables(data))
    for name in ("tables", "figures"):
        with writing(str(folder / name)):
            (folder / name).mkdir(parents=True, exist_ok=True)
    for table in listed:
        write_file(folder / "tables" / f"{table.name}.md", table.markdown().encode())
        write_file(folder / "tables" / f"{table.name}.csv", table.csv().encode())
    for drawing in drawn:
        write_file(folder / "figures" / f"{drawing.name}.svg", drawing.svg())
        write_file(folder / "figures" / f"{drawing.name}.png", drawing.png())
    write_file(folder / "report.html", page(data, listed, drawn).encode())
