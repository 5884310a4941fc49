// CPython 3.14 for the tests: python-build-standalone, as a Go module. `scripts/setup cpython DIR` unpacks it.
module cpython

go 1.19

require github.com/kluctl/go-embed-python v0.0.0-3.14.6-20260610-1
