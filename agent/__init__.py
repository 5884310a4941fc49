"""The agent: finds the process of a container on its node and attaches its native debugger."""
