"""The coordinator: matches marked requests with the developers who wait for them."""
