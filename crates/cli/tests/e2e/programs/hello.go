// A static HTTP server: go build with CGO_ENABLED=0.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello from go") })
	fmt.Println(http.ListenAndServe(os.Args[1], nil))
	os.Exit(1)
}
