package main

// #include <stdio.h>
// static void say(void) { puts("it ran"); fflush(stdout); }
import "C"

func main() { C.say() }
