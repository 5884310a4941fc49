# The demo's ledger, in Java: on a runtime of the few modules that it needs.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
# The JDK's scripts want these directories, which small systems lack.
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update \
 && apt-get install -y --no-install-recommends binutils openjdk-17-jdk-headless
RUN jlink --add-modules java.base,jdk.httpserver,jdk.jdwp.agent --strip-java-debug-attributes --no-header-files \
    --no-man-pages --output /opt/java
COPY demo/services/Ledger.java /src/
RUN javac -g -d /app /src/Ledger.java

FROM ${BASE}
COPY --from=build /opt/java /opt/java
COPY --from=build /app /app
USER 10001:10001
# Nothing listens until it is asked to, and then on its own loopback alone.
ENV JAVA_TOOL_OPTIONS=-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,onjcmd=y,address=127.0.0.1:0
ENTRYPOINT ["/opt/java/bin/java", "-cp", "/app", "Ledger"]
CMD ["--listen", "0.0.0.0:5000"]
