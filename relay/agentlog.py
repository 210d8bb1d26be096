"""Logs: one event, one line, on stderr; text on a terminal, JSON elsewhere unless the file says otherwise."""

from __future__ import annotations

import logging
import sys

import structlog

from relay.config import Config


def set_up_logging(config: Config) -> None:
    """Level and format of ``[log]``; every line carries the node's id."""
    as_text = config.log.format == "text" or (config.log.format == "auto" and sys.stderr.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if as_text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.log.level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(node=config.node.id)
