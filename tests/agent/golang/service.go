// A small service to be debugged: goroutines at work, and an HTTP server that answers prices.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

var ticks, noted int64

//go:noinline
func note(total int) {
	atomic.AddInt64(&noted, int64(total))
}

//go:noinline
func price(amount, rate int) int {
	total := amount * rate
	note(total)  // so that total is read anew after it
	return total // the tests break here
}

//go:noinline
func never(amount int) int {
	return amount + 1
}

func work() {
	for {
		for i := 0; i < 20000; i++ {
			atomic.AddInt64(&ticks, 1)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func main() {
	for i := 0; i < 3; i++ {
		go work()
	}
	http.HandleFunc("/price", func(w http.ResponseWriter, r *http.Request) {
		amount, _ := strconv.Atoi(r.URL.Query().Get("amount"))
		fmt.Fprintf(w, "%d", price(amount, 3))
	})
	http.HandleFunc("/never", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d", never(1))
	})
	http.HandleFunc("/ticks", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %d", atomic.LoadInt64(&ticks), runtime.NumGoroutine())
	})
	address := "127.0.0.1:0"
	if len(os.Args) > 2 && os.Args[1] == "--listen" {
		address = os.Args[2]
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	fmt.Printf("service ready on http://%s\n", listener.Addr())
	panic(http.Serve(listener, nil))
}
