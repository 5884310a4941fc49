// A service of one function: GET /scaled?number=N answers {"answer": 2 N, "count": 1},
// the latter the time it was asked for N (below 1000).
//
// `service HOST:PORT [BUSY]`: BUSY threads are at work meanwhile. Says `service ready on http://HOST:PORT`.
#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

static std::atomic<int> counts[1000];

__attribute__((noinline)) int scaled(int number) {
  int factor = 2;
  return number * factor;  // the tests break here
}

static void serve(int client) {
  std::string asked;
  char buffer[4096];
  while (asked.find("\r\n\r\n") == std::string::npos) {
    ssize_t got = read(client, buffer, sizeof buffer);
    if (got <= 0) break;
    asked.append(buffer, got);
  }
  size_t at = asked.find("number=");
  if (at != std::string::npos) {
    int number = atoi(asked.c_str() + at + 7), count = ++counts[number % 1000];
    std::string answer = std::to_string(scaled(number));
    std::string body = "{\"answer\": " + answer + ", \"count\": " + std::to_string(count) + "}";
    std::string head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size());
    std::string said = head + "\r\n\r\n" + body;
    for (size_t sent = 0; sent < said.size();) {
      ssize_t took = write(client, said.data() + sent, said.size() - sent);
      if (took <= 0) break;
      sent += took;
    }
  }
  close(client);
}

static void work() {
  volatile long total = 0;
  for (;;) {
    for (int number = 0; number < 20000; number++) total = total + number % 7;
    usleep(1000);
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  char *port = argc > 1 ? strrchr(argv[1], ':') : nullptr;
  if (!port) return 2;
  *port++ = 0;
  for (int count = argc > 2 ? atoi(argv[2]) : 0; count > 0; count--) std::thread(work).detach();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(atoi(port));
  inet_pton(AF_INET, argv[1], &address.sin_addr);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t length = sizeof address;
  if (bind(listener, (sockaddr *)&address, length) || listen(listener, 128)) {
    perror("listen");
    return 1;
  }
  getsockname(listener, (sockaddr *)&address, &length);
  printf("service ready on http://%s:%d\n", argv[1], ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) std::thread(serve, client).detach();
  }
}
