"""The table of metrics. To add a metric, add its file to this folder and its row here."""

from . import fid, kid, likelihood, path_length, precision_recall, sharpness, spectrum, two_sample
from .metric import HIGHER, LOWER, Column, Metric

METRICS: tuple[Metric, ...] = (
    fid.METRIC,
    kid.METRIC,
    precision_recall.METRIC,
    two_sample.METRIC,
    sharpness.METRIC,
    spectrum.METRIC,
    path_length.METRIC,
)
# Measured in every feature space: a record has them at its top level and in each entry of "also".
FEATURE_COLUMNS = tuple(column for metric in METRICS if not metric.of_pixels for column in metric.columns)
# Measured once: each is in a table of the record, and that table names its own protocol.
PIXEL_COLUMNS = tuple(column for metric in METRICS if metric.of_pixels for column in metric.columns)
# For protocols that draw no samples, such as bpd-heldout-8bit.
LIKELIHOOD_COLUMNS = likelihood.COLUMNS


def option_of(column: Column) -> str:
    """The option of `omokage evaluate` that adds a figure; "" if it is always measured."""
    return next((metric.option for metric in METRICS if column in metric.columns), "")


def better(column: Column) -> str:
    """Which values of a figure are better, in one word.

    >>> [better(column) for column in (FEATURE_COLUMNS[0], *PIXEL_COLUMNS)]
    ['lower', '0.5', '1', '1', '1', 'lower', 'lower']
    """
    if column.ideal:
        return column.ideal.split()[0]
    return {LOWER: "lower", HIGHER: "higher"}.get(column.better, "")


def markdown() -> str:
    """The table of figures in Markdown, as in the documentation."""
    columns = (*FEATURE_COLUMNS, *PIXEL_COLUMNS, LIKELIHOOD_COLUMNS[0])
    rows = [(column.words, better(column), column.help, column.source) for column in columns]
    head = ["| figure | better | says | source |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
