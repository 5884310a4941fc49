// A native service that counts what reaches it: /counts says how often each path came, everything else is told back.

#include <arpa/inet.h>
#include <csignal>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <thread>

static std::map<std::string, int> counts;
static std::mutex lock;

extern "C" {
__attribute__((noinline)) int counted(const char* path) {
    std::lock_guard<std::mutex> held(lock);
    return ++counts[path];
}
__attribute__((noinline)) int never(int x) { return x + 1; }
}

static std::string all() {
    std::lock_guard<std::mutex> held(lock);
    std::string json;
    for (auto& [path, count] : counts) json += (json.empty() ? "\"" : ", \"") + path + "\": " + std::to_string(count);
    return "{" + json + "}";
}

static void serve(int connection) {
    std::string received;
    char chunk[4096];
    for (;;) {
        size_t end = received.find("\r\n\r\n");
        if (end == std::string::npos) {
            ssize_t n = recv(connection, chunk, sizeof chunk, 0);
            if (n < 0 && errno == EINTR) continue;  // a debugger interrupts system calls
            if (n <= 0) break;
            received.append(chunk, static_cast<size_t>(n));
            continue;
        }
        size_t start = received.find(' ') + 1;
        std::string path = received.substr(start, received.find(' ', start) - start);
        received.erase(0, end + 4);
        std::string body = path == "/counts" ? all() : "{\"count\": " + std::to_string(counted(path.c_str())) + "}";
        std::string answer = "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
        for (size_t sent = 0; sent < answer.size();) {
            ssize_t n = send(connection, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
            if (n < 0 && errno != EINTR) break;
            sent += n > 0 ? static_cast<size_t>(n) : 0;
        }
    }
    close(connection);
}

int main(int argc, char**) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) || listen(listener, 128)) return 1;
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    std::printf("counting ready on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    if (argc > 9) return never(1);
    for (;;) {
        int connection = accept(listener, nullptr, nullptr);
        if (connection >= 0) std::thread(serve, connection).detach();
    }
}
