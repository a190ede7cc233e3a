// Package greet is a module that only those with a password may read.
package greet

// Hello greets somebody.
func Hello(name string) string { return "hello " + name + ", from a private module" }
