"""Preflight: whether a debugger could harm a process, or would fail on it, found out before anything is touched.

`facts` says what is known of the agent and of one process, `gather` reads it from /proc, `judge` says what it means for
a debugger's `needs`: findings, each with its reason and remedy. Only `gather` looks at the machine.
"""
