"""zrelay, the relay of a live-media mesh. `zrelay --help` is the way in; the floors are drawn in DESIGN.md."""

__version__ = "0.1.0"
