"""How panels of one kind look: the choices that every row would otherwise repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#808080"

PanelBuilder = Builder[dashboard.Panel]
Steps = Sequence[tuple[float | None, str]]
"""Colours from these values on; None is minus infinity."""


class Line(NamedTuple):
    """A query, and what its series are called."""

    expression: str
    legend: str = "{{name}}"


def line_target(ref_id: str, line: Line) -> prometheus.Dataquery:
    """Return a query over the time range."""
    return _target(ref_id, line.expression).legend_format(line.legend).range()


def instant_target(ref_id: str, expression: str, form: PromQueryFormat, legend: str = "") -> prometheus.Dataquery:
    """Return a query for the end of the time range."""
    return _target(ref_id, expression).legend_format(legend).format(form).instant()


def _target(ref_id: str, expression: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref_id).expr(expression).datasource(DATASOURCE)


def lines(
    title: str,
    description: str,
    unit: str,
    *shown: Line,
    width: int = 8,
    most: float | None = None,
    steps: Steps = (),
    stacked: bool = False,
) -> timeseries.Panel:
    """Return a graph over time. `most`: where its axis ends; `steps`: lines at values that matter."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(20 if stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
    )
    if most is not None:
        panel = panel.max(most)
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if steps:
        panel = panel.thresholds(thresholds(steps)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for ref_id, line in zip("ABCDEFGH", shown, strict=False):
        panel = panel.with_target(line_target(ref_id, line))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    width: int = 3,
    steps: Steps,
    decimals: int | None = None,
) -> stat.Panel:
    """Return one number, coloured by what it means, over a line of how it went."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .thresholds(thresholds(steps))
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(line_target("A", Line(expression, title)))
    )
    return panel if decimals is None else panel.decimals(decimals)


def columns(
    title: str,
    description: str,
    unit: str,
    keys: Sequence[str],
    shown: Mapping[str, tuple[str, str]],
    *,
    width: int = 24,
    height: int = 8,
) -> table.Panel:
    """Return a table with a row for each set of the labels `keys`; `shown` has each column's unit and expression."""
    panel = table.Panel().title(title).description(description).datasource(DATASOURCE).unit(unit)
    panel = panel.span(width).height(height)
    for name, (of_column, expression) in shown.items():
        marked = f'label_replace({expression}, "field", "{name}", "", "")'
        panel = panel.with_target(instant_target(name, marked, PromQueryFormat.TIME_SERIES))
        if of_column != unit:
            panel = panel.override_by_name(name, [dashboard.DynamicConfigValue("unit", of_column)])
    return panel.with_transformation(transformation("joinByLabels", "", {"value": "field", "join": list(keys)}))


def transformation(name: str, frames: str, options: Mapping[str, object]) -> dashboard.DataTransformerConfig:
    """Return a transformation of the frames whose refId fits; "" is all."""
    matcher = dashboard.MatcherConfig(id_val="byRefId", options=frames) if frames else None
    return dashboard.DataTransformerConfig(id_val=name, filter_val=matcher, options=dict(options))


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Return colours by value."""
    return (
        builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=color) for value, color in steps])
    )


def named(values: Mapping[int, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Return what values are called, and their colours."""
    results = {
        str(value): dashboard.ValueMappingResult(text=text, color=color, index=at)
        for at, (value, (text, color)) in enumerate(values.items())
    }
    return [dashboard.ValueMap(options=results)]
