package main

import (
	"os"
	"path/filepath"
)

// Everything that identifies the cluster on this machine. There is one cluster a machine, shared by
// all checkouts, so these are constants and not settings.
const (
	clusterName = "whittle"
	nodeName    = "whittle"
	bridge      = "whittle0"
	cgroupRoot  = "whittle-cluster"

	stateDir = "/var/lib/whittle-cluster"
	lockFile = "/run/lock/whittle-cluster.lock"

	nodeIP      = "10.245.0.1"
	nodePrefix  = "10.245.0.1/24"
	nodeCIDR    = "10.245.0.0/24"
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	apiIP       = "10.96.0.1"
	dnsIP       = "10.96.0.10"
	// On the node's loopback.
	metadataIP = "169.254.169.254"
	outsideIP  = "198.51.100.1" // of those that nobody has (RFC 5737)

	registryName = "registry.whittle.local"
	gitName      = "git.whittle.local"
	modulesName  = "modules.whittle.local"
	registryPort = "5000"
	gitPort      = "3000"
	modulesPort  = "8081"
	apiPort      = "6443"

	// The netfilter queue of the NetworkPolicy engine.
	policyQueue = "100"

	// Host ports, on loopback only.
	hostAPI      = "127.0.0.1:16443"
	hostRegistry = "127.0.0.1:15000"
	hostGit      = "127.0.0.1:13000"
)

// Tags of the images that are made here; the chart and the tests name them.
const (
	pauseTag    = "3.10"
	coreDNSTag  = "v1.15.0"
	buildkitTag = "v0.33.1-rootless"
	golangTag   = "1.26"
	busyboxTag  = "1.36"
)

// builderEgress is what builders may reach of the node, as a NetworkPolicy's egress rule: elsewhere a registry is not on one.
const builderEgress = "{to: [{ipBlock: {cidr: " + nodeIP + "/32}}], ports: [{protocol: TCP, port: " + registryPort +
	"}, {protocol: TCP, port: " + gitPort + "}, {protocol: TCP, port: " + modulesPort + "}]}"

// hostForwards pairs each listening socket in the host's network namespace with what it leads to
// inside the sandbox. The order is the order of the inherited file descriptors.
var hostForwards = []struct{ name, listen, target string }{
	{"API server", hostAPI, nodeIP + ":" + apiPort},
	{"registry", hostRegistry, nodeIP + ":" + registryPort},
	{"git server", hostGit, nodeIP + ":" + gitPort},
}

// guardedCIDRs get an unreachable route on the host, so that a packet for the cluster's own
// addresses never leaves by the default route.
var guardedCIDRs = []string{podCIDR, serviceCIDR, nodeCIDR}

func state(parts ...string) string {
	return filepath.Join(append([]string{stateDir}, parts...)...)
}

func logPath(component string) string { return state("logs", component+".log") }

func cacheDir(parts ...string) string {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/root"
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(append([]string{base, "whittle"}, parts...)...)
}
