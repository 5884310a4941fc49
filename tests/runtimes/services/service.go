// A service of one function: GET /scaled?number=N answers {"answer": 2 N, "count": 1},
// the latter the time it was asked for N (below 1000).
//
// `service HOST:PORT [BUSY]`: BUSY goroutines are at work meanwhile. Says `service ready on http://HOST:PORT`.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

var counts [1000]int64

// The compiler must take the factor from memory, where a debugger may have changed it.
//
//go:noinline
func look(*int) {}

func scaled(number int) int {
	factor := 2
	look(&factor)
	return number * factor // the tests break here
}

func answer(writer http.ResponseWriter, request *http.Request) {
	number, err := strconv.Atoi(request.URL.Query().Get("number"))
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	count := atomic.AddInt64(&counts[number%len(counts)], 1)
	fmt.Fprintf(writer, "{\"answer\": %d, \"count\": %d}", scaled(number), count)
}

func work() {
	total := 0
	for {
		for number := 0; number < 20000; number++ {
			total += number % 7
		}
		time.Sleep(time.Millisecond)
	}
}

func main() {
	if len(os.Args) > 2 {
		busy, _ := strconv.Atoi(os.Args[2])
		for ; busy > 0; busy-- {
			go work()
		}
	}
	listener, err := net.Listen("tcp4", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("service ready on http://%s\n", listener.Addr())
	http.HandleFunc("/", answer)
	http.Serve(listener, nil)
}
