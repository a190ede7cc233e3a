// Package greet is a module that other samples require.
package greet

// Hello greets somebody.
func Hello(name string) string { return "hello " + name + ", from a module" }
