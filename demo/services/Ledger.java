import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.Executors;

/** Says whether an order is paid: GET /order?number=1001. A service of the demo, on the JDK alone. */
public final class Ledger {
    /** Cents that are due, by the order's number. */
    private static final Map<String, Integer> DUE = Map.of("1001", 4750, "1002", 90, "1003", 12000);

    /** Cents that came in. */
    private static final Map<String, Integer> PAID = Map.of("1001", 4750, "1002", 90, "1003", 6000);

    private Ledger() {}

    /** Whether everything that is due came in. */
    static boolean settled(Integer due, Integer paid) {
        boolean equal = due == paid;
        return equal;
    }

    private static void order(HttpExchange exchange) throws IOException {
        if (!exchange.getRequestURI().getPath().equals("/order")) {
            nothing(exchange);
            return;
        }
        String query = String.valueOf(exchange.getRequestURI().getQuery());
        String number = query.startsWith("number=") ? query.substring("number=".length()) : "";
        if (number.isEmpty()) {
            answer(exchange, 400, error("number is missing; try /order?number=1001"));
            return;
        }
        if (!DUE.containsKey(number)) {
            answer(exchange, 400, error("no such order: '" + number + "'"));
            return;
        }
        Integer due = DUE.get(number);
        Integer paid = PAID.get(number);
        String content = "{\"number\": %s, \"due\": %d, \"paid\": %d, \"settled\": %s}";
        answer(exchange, 200, content.formatted(quoted(number), due, paid, settled(due, paid)));
    }

    private static void nothing(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getPath();
        answer(exchange, 404, error("no such page: " + path + "; try /order?number=1001"));
    }

    private static String error(String message) {
        return "{\"error\": " + quoted(message) + "}";
    }

    /** Text as a JSON string. */
    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            boolean plain = c >= 0x20 && c <= 0x7e && c != '"' && c != '\\';
            out.append(plain ? String.valueOf(c) : "\\u%04x".formatted((int) c));
        }
        return out.append('"').toString();
    }

    private static void answer(HttpExchange exchange, int status, String content) throws IOException {
        byte[] body = content.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("content-type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        try (exchange) {
            exchange.getResponseBody().write(body);
        }
    }

    private static void fail(String message) {
        System.err.println("ledger: " + message);
        System.exit(2);
    }

    private static InetSocketAddress address(String text) {
        int colon = text.lastIndexOf(':');
        String port = text.substring(colon + 1);
        if (colon < 1 || !port.matches("\\d{1,5}") || Integer.parseInt(port) > 65535) {
            fail("--listen: expected HOST:PORT, not '" + text + "'");
        }
        return new InetSocketAddress(text.substring(0, colon), Integer.parseInt(port));
    }

    public static void main(String[] arguments) {
        if (arguments.length != 0 && (arguments.length != 2 || !arguments[0].equals("--listen"))) {
            fail("usage: Ledger [--listen HOST:PORT]");
        }
        InetSocketAddress wanted = address(arguments.length == 2 ? arguments[1] : "127.0.0.1:0");
        try {
            HttpServer server = HttpServer.create(wanted, 128);
            server.setExecutor(Executors.newCachedThreadPool());
            server.createContext("/", Ledger::nothing);
            server.createContext("/healthz", exchange -> answer(exchange, 200, "{\"status\": \"ok\"}"));
            server.createContext("/order", Ledger::order);
            server.start();
            System.out.printf("ledger ready on http://%s:%d%n", wanted.getHostString(), server.getAddress().getPort());
        } catch (IOException problem) {
            fail("--listen: " + problem.getMessage());
        }
    }
}
