"""The filter: what Envoy does with a marked request, and the sidecar that holds it."""
