import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** A service to be debugged: GET /price?COUNT, with threads that are busy meanwhile. */
public final class Prices {
    static volatile long rounds;

    private Prices() {}

    static int price(int count) {
        int each = 7;
        int total = count * each;
        return total; // the tests break here
    }

    private static void answer(HttpExchange exchange) throws IOException {
        int count = Integer.parseInt(exchange.getRequestURI().getQuery());
        int found = exchange.getRequestURI().getPath().equals("/rebate") ? Rebate.of(count) : price(count);
        byte[] text = String.valueOf(found).getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(200, text.length);
        exchange.getResponseBody().write(text);
        exchange.close();
    }

    private static void work() {
        while (true) {
            for (int i = 0; i < 1000; i++) {
                rounds++;
            }
            try {
                Thread.sleep(1);
            } catch (InterruptedException over) {
                return;
            }
        }
    }

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", Prices::answer);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
        for (int i = 0; i < 2; i++) {
            Thread thread = new Thread(Prices::work, "busy");
            thread.setDaemon(true);
            thread.start();
        }
        System.out.println("prices ready on http://127.0.0.1:" + server.getAddress().getPort());
    }
}

/** Loaded when it is first wanted. */
final class Rebate {
    private Rebate() {}

    static int of(int count) {
        int rebate = count / 10;
        return rebate; // or here
    }
}
