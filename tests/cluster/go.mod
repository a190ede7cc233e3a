module whittle.dev/local-cluster

go 1.26
