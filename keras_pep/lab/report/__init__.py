"""The report: one page that says what a run, or several, have found."""

from keras_pep.lab.report.content import RunContent, read_runs
from keras_pep.lab.report.figures import comparison_table, stages_table
from keras_pep.lab.report.page import write_page, write_report

__all__ = [
    "RunContent",
    "comparison_table",
    "read_runs",
    "stages_table",
    "write_page",
    "write_report",
]
