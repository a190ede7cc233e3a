package main

import (
	"fmt"
	"os"
)

const greeting = "hello from an artifact"

func main() {
	fmt.Fprintln(os.Stdout, greeting)
}
