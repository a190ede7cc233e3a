package main

import (
	"fmt"
	"os"
)

const greeting = "hello from git"

func main() {
	fmt.Fprintln(os.Stdout, greeting)
}
