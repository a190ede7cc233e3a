module whittle.dev/bench-inspect

go 1.26.0
