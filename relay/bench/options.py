"""Values that several of the benchmarks' options take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from relay.units import NS_PER_S, parse_duration_ns

_DAY_NS = 86_400 * NS_PER_S


class FiniteRange(click.FloatRange):
    """A number in a range; nan, which compares with nothing, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


class Seconds(FiniteRange):
    """0.1 to 3600."""

    def __init__(self) -> None:
        super().__init__(0.1, 3600)


def parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], Any]:
    """A parser that raises ValueError, as an option's callback."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: str) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None

    return callback


def duration_ns(text: str) -> int:
    """Up to a day; ValueError."""
    value = parse_duration_ns(text)
    if value > _DAY_NS:
        raise ValueError(f"{text!r} is more than a day")
    return value
