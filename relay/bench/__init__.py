"""Measurements: our engines and a stock one over the same links, reached by `zrelay bench`."""
