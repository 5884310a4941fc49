// Says what is in stock: GET /stock?items=apple:3,pear:1. A service of the demo, on nothing but sockets.

#include <arpa/inet.h>
#include <csignal>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

struct Shelf {
    int pieces;
    int reserved;  // pre-orders count: may be more than there are pieces
};

static const std::map<std::string, Shelf> shelves = {
    {"apple", {100, 12}}, {"pear", {30, 5}}, {"plum", {6, 8}}, {"melon", {25, 4}}, {"cheese", {40, 6}},
};

struct BadRequest : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// How many pieces can still be sold.
int available(const std::string& sku, int reserved) {
    int on_shelf = shelves.at(sku).pieces;
    int left = on_shelf - reserved;
    return left;
}

bool all_digits(const std::string& text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

// Text as a JSON string.
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (unsigned char c : text) {
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
            out += escaped;
        } else {
            out += static_cast<char>(c);
        }
    }
    return out + "\"";
}

std::string decoded(const std::string& text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
            std::isxdigit(static_cast<unsigned char>(text[i + 2]))) {
            out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

// The value of `items` in a query; empty when there is none.
std::string items_of(const std::string& query) {
    std::istringstream parts(query);
    for (std::string part; std::getline(parts, part, '&');) {
        if (part.rfind("items=", 0) == 0) return decoded(part.substr(6));
    }
    return "";
}

int quantity_of(const std::string& sku, const std::string& text) {
    int quantity = all_digits(text) && text.size() < 4 ? std::stoi(text) : 0;
    if (quantity < 1) throw BadRequest(sku + ": a quantity is a whole number from 1 to 999, not '" + text + "'");
    return quantity;
}

// What is there of `apple:3,pear:1`, as JSON. Throws BadRequest.
std::string stock_of(const std::string& items) {
    if (items.empty()) throw BadRequest("items is missing; try /stock?items=apple:3,pear:1");
    std::istringstream parts(items + ",");
    std::set<std::string> seen;
    std::string json;
    for (std::string part; std::getline(parts, part, ',');) {
        size_t colon = std::min(part.find(':'), part.size());
        std::string sku = part.substr(0, colon);
        auto shelf = shelves.find(sku);
        if (shelf == shelves.end()) throw BadRequest("no such item: '" + sku + "'");
        int wanted = quantity_of(sku, part.substr(std::min(colon + 1, part.size())));
        if (!seen.insert(sku).second) throw BadRequest(sku + " is in the cart twice");
        int count = available(sku, shelf->second.reserved);
        int missing = std::max(0, wanted - count);
        json += (json.empty() ? "" : ", ") + quoted(sku) + ": {\"quantity\": " + std::to_string(wanted) +
                ", \"available\": " + std::to_string(count) + ", \"missing\": " + std::to_string(missing) + "}";
    }
    return "{\"items\": {" + json + "}}";
}

std::string response(const std::string& status, const std::string& body, bool keep) {
    return "HTTP/1.1 " + status + "\r\ncontent-type: application/json\r\ncontent-length: " +
           std::to_string(body.size()) + (keep ? "" : "\r\nconnection: close") + "\r\n\r\n" + body;
}

std::string error(const std::string& message) { return "{\"error\": " + quoted(message) + "}"; }

// The answer to one request, of which `head` is all lines in lower case. A body is not read, so it ends the connection.
std::string answer(const std::string& first_line, const std::string& head, bool& keep) {
    std::istringstream words(first_line);
    std::string method, target, version;
    words >> method >> target >> version;
    auto has = [&head](const char* text) { return head.find(text) != std::string::npos; };
    bool has_body = has("\r\ntransfer-encoding:") || (has("\r\ncontent-length:") && !has("\r\ncontent-length: 0\r\n"));
    keep = version == "HTTP/1.1" && !has_body && !has("\r\nconnection: close\r\n");
    if (version.rfind("HTTP/1.", 0) != 0 || target.rfind('/', 0) != 0) {
        keep = false;
        return response("400 Bad Request", error("this is not HTTP/1.1"), keep);
    }
    if (method != "GET" || has_body) {
        return response("400 Bad Request", error("only GET, without a body, is answered"), keep);
    }
    std::string path = target.substr(0, target.find('?'));
    std::string query = path.size() < target.size() ? target.substr(path.size() + 1) : "";
    if (path == "/healthz") return response("200 OK", "{\"status\": \"ok\"}", keep);
    if (path != "/stock") {
        return response("404 Not Found", error("no such page: " + path + "; try /stock?items=apple:3,pear:1"), keep);
    }
    try {
        return response("200 OK", stock_of(items_of(query)), keep);
    } catch (const BadRequest& problem) {
        return response("400 Bad Request", error(problem.what()), keep);
    }
}

// False when the other side has gone. Attaching a debugger interrupts system calls, hence EINTR.
bool send_all(int connection, const std::string& data) {
    for (size_t sent = 0; sent < data.size();) {
        ssize_t n = send(connection, data.data() + sent, data.size() - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) return false;
        sent += static_cast<size_t>(std::max<ssize_t>(n, 0));
    }
    return true;
}

void serve(int connection) {
    const size_t longest_head = 16384;
    std::string received;
    char chunk[4096];
    for (bool keep = true; keep;) {
        size_t end = received.find("\r\n\r\n");
        if (end == std::string::npos) {
            if (received.size() > longest_head) {
                send_all(connection, response("400 Bad Request", error("the head of the request is too long"), false));
                break;
            }
            ssize_t n = recv(connection, chunk, sizeof chunk, 0);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) break;
            received.append(chunk, static_cast<size_t>(n));
            continue;
        }
        std::string head = received.substr(0, end + 2);
        received.erase(0, end + 4);
        std::string first_line = head.substr(0, head.find("\r\n"));
        std::transform(head.begin(), head.end(), head.begin(), [](unsigned char c) { return std::tolower(c); });
        if (!send_all(connection, answer(first_line, head, keep))) break;
    }
    close(connection);
}

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "stock: %s\n", what.c_str());
    std::exit(2);
}

sockaddr_in address_of(const std::string& text) {
    size_t colon = text.rfind(':');
    std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
    bool valid = all_digits(port) && port.size() < 6 && std::stoi(port) < 65536;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (!valid || inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
        fail("--listen: expected HOST:PORT with an IPv4 address, not '" + text + "'");
    }
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(port)));
    return address;
}

int main(int argc, char** argv) {
    if (argc != 1 && (argc != 3 || std::string(argv[1]) != "--listen")) fail("usage: stock [--listen HOST:PORT]");
    sockaddr_in address = address_of(argc == 3 ? argv[2] : "127.0.0.1:0");
    socklen_t size = sizeof address;

    // Before any thread starts, so that the signals come to this one alone.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) || listen(listener, 128) ||
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size)) {
        fail(std::string("cannot listen: ") + std::strerror(errno));
    }

    std::thread([listener] {
        const int on = 1;
        for (;;) {
            int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            if (connection < 0) continue;
            setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            std::thread(serve, connection).detach();
        }
    }).detach();

    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    std::printf("stock ready on http://%s:%d\n", host, ntohs(address.sin_port));
    std::fflush(stdout);

    int received = 0;
    sigwait(&signals, &received);
    std::quick_exit(0);  // threads still in a request must not see statics go
}
