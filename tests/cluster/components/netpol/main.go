// The local cluster's NetworkPolicy engine: kube-network-policies with a kubeconfig in place of a Pod's account. Its own
// program knows no kubeconfig.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "who to be")
	node := flag.String("node", "", "the Node's name")
	queue := flag.Int("queue", 0, "number of the netfilter queue that brings the packets")
	flag.Parse()
	if err := run(*kubeconfig, networkpolicy.Config{NodeName: *node, QueueID: *queue}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig string, config networkpolicy.Config) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	who, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(who)
	if err != nil {
		return err
	}
	all := informers.NewSharedInformerFactory(client, 0)
	core := all.Core().V1()
	engine, err := networkpolicy.NewController(client, all.Networking().V1().NetworkPolicies(), core.Namespaces(), core.Pods(), nil, nil, nil, nil, config)
	if err != nil {
		return err
	}
	all.Start(ctx.Done())
	return engine.Run(ctx)
}
