"""The ring once more, as plain dots: readable where a ring has more nodes than the node graph shows (200)."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import xychart
from grafana_foundation_sdk.models import common, dashboard, units
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

from monitoring.queries import PLACED, POSITION, SHARE, last, level, of, on_disk

from .kit import DATASOURCE, GREEN, ORANGE, RED, PanelBuilder, instant_target, named, thresholds, transformation

_EDGE = 1.15
"""The axes end a little outside of the circle, whose radius is 1."""


def _each(expression: str) -> str:
    return f"{expression} * on (job, instance) group_left (name, uid) ({PLACED} > bool 0)"


def _matcher(name: str) -> xychart.MatcherConfig:
    return xychart.MatcherConfig().id("byName").options(name)


def _axis(panel: xychart.Panel, name: str) -> xychart.Panel:
    limits = [dashboard.DynamicConfigValue("min", -_EDGE), dashboard.DynamicConfigValue("max", _EDGE)]
    return panel.override_by_name(name, [*limits, dashboard.DynamicConfigValue("decimals", 2)])


def places() -> PanelBuilder:
    """Return the nodes as dots at their places, in the colour of their health.

    The dots are of one size: Grafana cannot draw sizes that are all the same, as the shares of an even ring are.
    """
    angle = f"2 * pi() * ({_each(POSITION)})"
    fields = {
        "x": f"sin({angle})",
        "y": f"cos({angle})",
        "Share": _each(SHARE),
        "Health": level(),
        "Records": _each(on_disk(last(of("coterie_records")))),
    }
    series = (
        xychart.XYSeriesConfig()
        .name(xychart.XychartXYSeriesConfigName().fixed("Node"))
        .frame(xychart.XychartXYSeriesConfigFrame().matcher(xychart.MatcherConfig().id("byIndex").options(0)))
        .x(xychart.XychartXYSeriesConfigX().matcher(_matcher("x")))
        .y(xychart.XychartXYSeriesConfigY().matcher(_matcher("y")))
        .color(xychart.XychartXYSeriesConfigColor().matcher(_matcher("Health")))
    )
    panel = (
        xychart.Panel()
        .title("Places")
        .description(
            "Every node as a dot at its place, for rings that are too large for the picture above (it shows 200 nodes)."
            " Position 0 is at the top, positions grow clockwise. Green is ready, orange busy or short of a copy, red"
            " in trouble or not scraped any more."
        )
        .datasource(DATASOURCE)
        .unit(units.Short)
        .span(8)
        .height(8)
        .show(XYShowMode.POINTS)
        .point_size(xychart.XychartFieldConfigPointSize().fixed(10))
        .axis_placement(common.AxisPlacement.HIDDEN)
        .mapping(SeriesMapping.MANUAL)
        .series([series])
        .legend(common_builders.VizLegendOptions().show_legend(False))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
    )
    for name, expression in fields.items():
        marked = f'label_replace(max by (name, uid) ({expression}), "field", "{name}", "", "")'
        panel = panel.with_target(instant_target(name, marked, PromQueryFormat.TIME_SERIES))
    panel = panel.with_transformation(transformation("joinByLabels", "", {"value": "field", "join": ["name", "uid"]}))
    for axis in ("x", "y"):
        panel = _axis(panel, axis)
    panel = panel.override_by_name("Share", [dashboard.DynamicConfigValue("unit", units.PercentUnit)])
    by_thresholds = builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS).build()
    return panel.override_by_name(
        "Health",
        [
            dashboard.DynamicConfigValue("color", by_thresholds),
            dashboard.DynamicConfigValue("thresholds", thresholds(((None, GREEN), (1, ORANGE), (2, RED))).build()),
            dashboard.DynamicConfigValue(
                "mappings", named({0: ("ready", GREEN), 1: ("busy or short of a copy", ORANGE), 2: ("in trouble", RED)})
            ),
        ],
    )
