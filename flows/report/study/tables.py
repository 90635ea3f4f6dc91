"""The tables of a study, those of the paper first."""

from collections.abc import Iterable, Iterator, Sequence

from nmcl.flows.report.study import findings
from nmcl.flows.report.study.table import Cell, Column, Table
from nmcl.model.study.results import GatePoint, MethodRow, ScoreRow, Spread, StudyData

_METHOD = Column("Method", "method", "text")
_MICRO = Column("Micro-F1 %", "micro_f1", "spread", marks_best=True)
_MACRO = Column("Macro-F1 %", "macro_f1", "spread", marks_best=True)
_P = Column("p", "verdict_p_value", "p_value")


def tables(data: StudyData) -> Iterator[Table]:
    """Yield all tables that have rows."""
    makers = (
        _methods,
        _tests,
        _ranking,
        _calibration,
        _modalities,
        _enhanced,
        _variants,
        _learning_curves,
        _completion,
        _absence,
        _gates,
        _collapse,
        _constant,
    )
    yield from (table for table in (make(data) for make in makers) if table.rows)


def _cells(row: MethodRow | ScoreRow | GatePoint, columns: Iterable[Column]) -> tuple[Cell, ...]:
    """Return the fields of a row that have the columns' keys; the name of a method is under `method`."""
    return tuple(getattr(row, "name" if column is _METHOD else column.key) for column in columns)


def _methods(data: StudyData) -> Table:
    against = findings.reference(data)
    columns = (
        _METHOD,
        _MICRO,
        _MACRO,
        Column("Macro-F1 against the reference", "verdict", "text"),
        _P,
    )
    rows = tuple(
        (*_cells(row, columns[:3]), findings.verdict(row, against), row.verdict_p_value) for row in data.methods
    )
    caption = f"Table 2. Methods on {data.rows.test:,} test rows; p-values are against {data.reference}."
    return Table("table2-methods", caption, columns, rows)


def _tests(data: StudyData) -> Table:
    columns = (
        _METHOD,
        Column(f"Macro-F1, over the {data.tested}", "verdict_p_value", "p_value"),
        Column("Macro-F1, over the seeds", "macro_p_value", "p_value"),
        Column("Micro-F1, over the seeds", "p_value", "p_value"),
        Column("Right and wrong rows (McNemar)", "mcnemar_p_value", "p_value"),
    )
    rows = tuple(_cells(row, columns) for row in data.methods if row.name != data.reference)
    caption = (
        f"P-values against {data.reference}; the first one decides. A dash: not testable, as there is no variance, "
        "such as between two methods without random numbers on one split."
    )
    return Table("tests", caption, columns, rows)


def _ranking(data: StudyData) -> Table:
    columns = (
        _METHOD,
        Column("AUC micro %", "auc_micro", "spread", marks_best=True),
        Column("AUC macro %", "auc_macro", "spread", marks_best=True),
        Column("Top 5 %", "top5", "spread", marks_best=True),
        Column("Parameters", "parameters", "count"),
        Column("Training", "train_seconds", "seconds"),
    )
    rows = tuple(_cells(row, columns) for row in data.methods)
    return Table("ranking", "Ranking quality and cost of each method.", columns, rows)


def _calibration(data: StudyData) -> Table:
    columns = (
        _METHOD,
        Column("Calibration error (ECE) %", "ece", "spread"),
        Column("The same if calibrated %", "ece_if_calibrated", "spread"),
    )
    caption = (
        f"Calibration: how far confidence and share of right predictions are apart. On {data.rows.test:,} test rows a "
        "method with exact confidences has the error of the last column by chance."
    )
    return Table("calibration", caption, columns, tuple(_cells(row, columns) for row in data.methods))


def _modalities(data: StudyData) -> Table:
    return _score_table("table3-modalities", f"Table 3. {data.reference} on fewer modalities.", data.modalities)


def _variants(data: StudyData) -> Table:
    return _score_table("table5-variants", f"Table 5. Variants of {data.reference}.", data.variants)


def _score_table(name: str, caption: str, rows: Sequence[ScoreRow]) -> Table:
    first = Column("Modalities" if "modalities" in name else "Variant", "name", "text")
    columns = (first, _MICRO, _MACRO, _P)
    return Table(name, caption, columns, tuple(_cells(row, columns) for row in rows))


def _enhanced(data: StudyData) -> Table:
    names = list(dict.fromkeys(name for row in data.enhanced.values() for name in row))
    columns = (
        Column("Modalities", "name", "text"),
        *(Column(f"{name} %", name, "spread", marks_best=True) for name in names),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (subset, *(row.get(name, Spread()) for name in names)) for subset, row in data.enhanced.items()
    )
    return Table("table4-enhanced", "Table 4. Micro-F1 of each enhanced modality's own branch.", columns, rows)


def _learning_curves(data: StudyData) -> Table:
    columns = (
        _METHOD,
        Column("Labels %", "share", "share"),
        Column("Labels", "n_labels", "count"),
        Column("Macro-F1 %", "macro_f1", "spread"),
        Column("with unlabelled rows", "with_unlabelled", "spread"),
        Column("p", "p_value", "p_value"),
    )
    rows = tuple(
        (point.method, point.share, point.n_labels, point.macro_f1, point.with_unlabelled, point.p_value)
        for point in data.learning_curves
    )
    caption = "Learning curves: macro-F1 by share of the training labels. p is of the gain from unlabelled rows."
    return Table("learning-curves", caption, columns, rows)


def _completion(data: StudyData) -> Table:
    all_scores = [scores for level in data.completion for scores in level.completers.values()]
    names = list(dict.fromkeys(name for scores in all_scores for name in scores.per_modality))
    columns = (
        Column("Completer", "completer", "text"),
        Column("Hidden %", "hidden", "share"),
        Column("NRMSE", "nrmse", "decimal"),
        *(Column(f"NRMSE {name}", f"nrmse_{name}", "decimal") for name in names),
        Column("Macro-F1 % of incomplete rows", "macro_f1", "spread"),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (completer, level.hidden, scores.nrmse, *map(scores.per_modality.get, names), scores.macro_f1)
        for level in data.completion
        for completer, scores in level.completers.items()
    )
    caption = "Completion by share of vectors hidden; NRMSE 0 is perfect, 1 is as good as filling in the mean."
    return Table("completion", caption, columns, rows)


def _absence(data: StudyData) -> Table:
    columns = (
        Column("Absent", "absent", "text"),
        Column("Handling", "filling", "text"),
        Column("Micro-F1 %", "micro_f1", "spread"),
        Column("Macro-F1 %", "macro_f1", "spread"),
        Column("Macro-F1 lost, points", "macro_loss", "points"),
    )
    rows = tuple(
        (modality, filling, scores.micro_f1, scores.macro_f1, scores.macro_loss)
        for modality, fillings in data.absence.items()
        for filling, scores in fillings.items()
    )
    return Table("absence", f"{data.reference} when a modality is absent at prediction.", columns, rows)


def _gates(data: StudyData) -> Table:
    columns = (
        Column("Modality", "modality", "text"),
        Column("Side", "side", "text"),
        Column("Epoch", "epoch", "count"),
        Column("Open %", "open", "share"),
        Column("Undecided %", "undecided", "share"),
        Column("Shut %", "shut", "share"),
        Column("Consistent norm %", "consistent_norm", "share"),
        Column("Complementary norm %", "complementary_norm", "share"),
        Column("Divergence, nats", "divergence", "decimal"),
    )
    rows = tuple(_cells(point, columns) for point in findings.last_gates(data.gates))
    return Table("gates", "The gates after the last epoch.", columns, rows)


def _collapse(data: StudyData) -> Table:
    columns = (Column("Branch", "branch", "text"), Column("Rows %", "share", "share"))
    rows = tuple(findings.last_collapse(data).items())
    return Table("collapse", "Share of each branch's most frequent prediction after the last epoch.", columns, rows)


def _constant(data: StudyData) -> Table:
    """Return the paper's two weakest rows, the constant predictor they resemble, and the same methods here."""
    share, n = findings.PAPER_TOP_SHARE, findings.PAPER_VENUES
    columns = (
        Column("Row", "row", "text"),
        Column("Micro-F1 %", "micro_f1", "spread"),
        Column("Macro-F1 %", "macro_f1", "spread"),
    )
    constant = findings.constant_macro_f1(share, n)
    rows = (
        (f"always the most frequent of {n} venues, share {share}", Spread(share), Spread(constant)),
        ("Early Fusion, as printed", Spread(0.1139, 0.0001), Spread(0.0012, 0.0001)),
        ("Late Fusion, as printed", Spread(0.1257, 0.0023), Spread(0.0020, 0.0004)),
        *(
            (f"{row.name}, here", row.micro_f1, row.macro_f1)
            for row in data.methods
            if row.name in ("majority", "early_fusion", "late_fusion")
        ),
    )
    return Table("constant", "The paper's Early and Late Fusion next to a constant prediction.", columns, rows)
