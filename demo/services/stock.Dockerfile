# The demo's stock, in C++: a static program, and nothing else.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ libc6-dev
COPY demo/services/stock.cpp /src/
WORKDIR /src
RUN g++ -std=c++17 -g -O0 -static -o /stock stock.cpp

FROM scratch
COPY --from=build /stock /stock
USER 10001:10001
ENTRYPOINT ["/stock"]
CMD ["--listen", "0.0.0.0:5000"]
