"""The demo in containers, and the story that `make compose-demo` tells of it."""
