# The demo's pricing, in Python.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY demo/services/pricing.py /app/
USER 10001:10001
ENTRYPOINT ["python3", "/app/pricing.py"]
CMD ["--listen", "0.0.0.0:5000"]
