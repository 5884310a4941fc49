"""Small services with a real bug, and the story that `make demo` tells of them."""
