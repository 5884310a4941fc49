// A service of one function: GET /scaled?number=N answers {"answer": 2 N, "count": 1},
// the latter the time it was asked for N (below 1000).
//
// `Service HOST:PORT [BUSY]`: BUSY threads are at work meanwhile. Says `service ready on http://HOST:PORT`.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicIntegerArray;

public class Service {
    static final AtomicIntegerArray COUNTS = new AtomicIntegerArray(1000);

    static int scaled(int number) {
        int factor = 2;
        return number * factor; // the tests break here
    }

    static void answer(HttpExchange exchange) throws IOException {
        String query = exchange.getRequestURI().getQuery();
        int number = Integer.parseInt(query.substring("number=".length()));
        int count = COUNTS.incrementAndGet(number % COUNTS.length());
        byte[] body = ("{\"answer\": " + scaled(number) + ", \"count\": " + count + "}").getBytes();
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    static void work() {
        long total = 0;
        while (true) {
            for (int number = 0; number < 20000; number++) total += number % 7;
            try {
                Thread.sleep(1);
            } catch (InterruptedException error) {
                return;
            }
        }
    }

    public static void main(String[] arguments) throws IOException {
        int colon = arguments[0].lastIndexOf(':');
        String host = arguments[0].substring(0, colon);
        int port = Integer.parseInt(arguments[0].substring(colon + 1));
        for (int busy = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 0; busy > 0; busy--) {
            new Thread(Service::work, "busy").start();
        }
        HttpServer server = HttpServer.create(new InetSocketAddress(host, port), 128);
        server.createContext("/", Service::answer);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
        System.out.println("service ready on http://" + host + ":" + server.getAddress().getPort());
    }
}
