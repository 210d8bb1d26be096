"""``zrelay flame``: where a process spends its time, as folded stacks, an SVG, a speedscope file and a table.

    record.py  runs perf or py-spy          stacks.py      their text -> Stacks, and the .folded file
    target.py  which process               svg.py         Stacks -> flame graph; two of them -> red and blue
    table.py   the functions on top         speedscope.py  Stacks -> speedscope's file format
    inlined.py what the compiler folded into other functions

Everything but the sampling itself is ours, so nothing is fetched and nothing is run from the net.
"""
