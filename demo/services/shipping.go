// Says how a cart is sent: GET /shipping?items=apple:3,pear:1. A service of the demo, on the standard library alone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Grams apiece.
var weights = map[string]int{"apple": 150, "pear": 180, "plum": 60, "melon": 1250, "cheese": 500}

const (
	parcelWeight = 5000 // grams that one parcel takes
	parcelPrice  = 490  // cents
)

type quote struct {
	Weight  int    `json:"weight"`
	Parcels int    `json:"parcels"`
	Price   string `json:"price"`
}

// How many parcels this many grams take.
func parcels(weight int) int {
	count := 1
	for rest := weight; rest >= parcelWeight; rest -= parcelWeight {
		count++
	}
	return count
}

// The weight of a cart like apple:3,pear:1 in grams.
func weigh(items string) (int, error) {
	if items == "" {
		return 0, errors.New("items is missing; try /shipping?items=apple:3,pear:1")
	}
	total, seen := 0, map[string]bool{}
	for _, part := range strings.Split(items, ",") {
		item, text, _ := strings.Cut(part, ":")
		weight, known := weights[item]
		if !known {
			return 0, fmt.Errorf("no such item: %q", item)
		}
		quantity, err := strconv.ParseUint(text, 10, 16)
		if err != nil || quantity < 1 || quantity > 999 {
			return 0, fmt.Errorf("%s: a quantity is a whole number from 1 to 999, not %q", item, text)
		}
		if seen[item] {
			return 0, fmt.Errorf("%s is in the cart twice", item)
		}
		seen[item] = true
		total += weight * int(quantity)
	}
	return total, nil
}

func ship(writer http.ResponseWriter, request *http.Request) {
	weight, err := weigh(request.URL.Query().Get("items"))
	if err != nil {
		answer(writer, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	count := parcels(weight)
	cents := count * parcelPrice
	answer(writer, http.StatusOK, quote{weight, count, fmt.Sprintf("%d.%02d", cents/100, cents%100)})
}

func answer(writer http.ResponseWriter, status int, content any) {
	writer.Header().Set("content-type", "application/json")
	writer.WriteHeader(status)
	_ = json.NewEncoder(writer).Encode(content) // whoever asked may have gone
}

func pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(writer http.ResponseWriter, _ *http.Request) {
		answer(writer, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("/shipping", ship)
	mux.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		message := "no such page: " + request.URL.Path + "; try /shipping?items=apple:3,pear:1"
		answer(writer, http.StatusNotFound, map[string]string{"error": message})
	})
	return mux
}

func main() {
	address := flag.String("listen", "127.0.0.1:0", "HOST:PORT")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "shipping: --listen:", err)
		os.Exit(2)
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server := &http.Server{Handler: pages(), ReadHeaderTimeout: 10 * time.Second}
	fmt.Printf("shipping ready on http://%s\n", listener.Addr())
	go func() {
		<-ended.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "shipping:", err)
		os.Exit(1)
	}
}
