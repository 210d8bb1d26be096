"""``zrelay doctor``: what this host lacks for the data path, each with its fix.

    gather.py nics.py ethtool.py host.py  look at the host once  -> Facts (facts.py), which can be kept as JSON
    sockets.py nic.py cpu.py kernel.py profiling.py  the checks     Facts -> Finding, pure functions
    checks.py    all of them, in the order shown
    report.py    the screen, the JSON, the script of fixes

A check opens nothing and asks nobody: whatever it may look at is in the Facts, so that each outcome can be tested.
"""
