// A server of grpc.health.v1.Health that knows two services: "open" serves, "closed" does not.
package main

import (
	"io"
	"log"
	"net/http"
	"strings"
)

func check(w http.ResponseWriter, r *http.Request) {
	// A frame is a byte of flags, four of length, and the message: here its field 1 is the service's name.
	request, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	switch {
	case strings.HasSuffix(string(request), "\x0a\x04open"):
		w.Write([]byte{0, 0, 0, 0, 2, 8, 1}) // SERVING
	case strings.HasSuffix(string(request), "\x0a\x06closed"):
		w.Write([]byte{0, 0, 0, 0, 2, 8, 2}) // NOT_SERVING
	default:
		w.Header().Set("Grpc-Status", "5") // NOT_FOUND
		w.Header().Set("Grpc-Message", "unknown service")
		return
	}
	w.Header().Set("Grpc-Status", "0")
}

func main() {
	http.HandleFunc("POST /grpc.health.v1.Health/Check", check)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: ":9090", Protocols: &protocols}
	log.Fatal(server.ListenAndServe())
}
