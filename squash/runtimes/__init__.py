"""Container runtimes as the programs ask them: which containers run, and which process is one's first.

One module a runtime. Each is imported only by the plug-ins that need it, for the sake of its library.
"""
