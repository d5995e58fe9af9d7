"""The verbs on paths, one file each: what the command line, a script or a notebook calls.

Every verb takes paths and a frozen request, reports to a `Progress`, and returns an object with ``to_json``.
"""
