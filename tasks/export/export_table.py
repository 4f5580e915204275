"""The table of exports that `zoo export` prints."""

from __future__ import annotations

import math

COLUMNS = ("format", "precision", "MB", "ms/image", "largest", "mean", "equal")
INT8_COLUMNS = ("int8", "split", "images", "metric", "float32", "int8", "drop", "95% interval")


def rows(reports):
    """Returns the rows of a table of exports: strings, in the order of `COLUMNS`.

    Args:
        reports: what `export.export` returned.
    """
    return [
        (
            report["format"],
            report["precision"],
            f"{report['bytes'] / 1e6:.2f}",
            f"{report['milliseconds']:.2f}",
            *_parity_cells(report["parity"]),
        )
        for report in reports
    ]


def int8_rows(reports):
    """Returns the rows of a table of int8 exports: strings, in the order of `INT8_COLUMNS`."""
    return [
        (
            report["format"],
            split,
            f"{figures['images']:,}",
            report["int8"]["metric"],
            f"{figures['float32']:.4f}",
            f"{figures['int8']:.4f}",
            f"{figures['drop']:.4f}",
            " to ".join(
                f"{figures[key]:.4f}" for key in ("drop_low", "drop_high") if key in figures
            ),
        )
        for report in reports
        if "int8" in report
        for split, figures in report["int8"]["splits"].items()
    ]


def float_layer_lines(reports):
    """Returns a line for each int8 export with layers in float, which names them."""
    return [
        f"{report['format']} int8, layers left in float: {', '.join(names)}"
        for report in reports
        if (names := report.get("int8", {}).get("float_layers"))
    ]


def _parity_cells(parity):
    figures = [value for value in parity.values() if isinstance(value, dict)]
    columns = ((("largest",), max), (("mean",), max), (("equal_top1", "equal"), min))
    return [
        _extreme([each[key] for each in figures for key in keys if key in each], select)
        for keys, select in columns
    ]


def _extreme(values, select):
    values = [value for value in values if math.isfinite(value)]
    return f"{select(values):.2g}" if values else "-"
