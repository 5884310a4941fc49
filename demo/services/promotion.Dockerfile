# The demo's promotion, in JavaScript.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends nodejs \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY demo/services/promotion.js /app/
USER 10001:10001
ENTRYPOINT ["node", "/app/promotion.js"]
CMD ["--listen", "0.0.0.0:5000"]
