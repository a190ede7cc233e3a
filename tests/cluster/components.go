package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const containerdSocket = "/run/containerd/containerd.sock"

// writeConfigs writes every file that the components read. It runs on the host, before the sandbox.
func writeConfigs(bin string) error {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{
		{state(), 0o755}, {state("logs"), 0o755}, {state("config"), 0o755}, {state("etcd"), 0o700}, {state("registry"), 0o755},
		{state("kubelet"), 0o755}, {state("kubelet", "seccomp"), 0o755}, {state("cni"), 0o755}, {state("volumes"), 0o711}, {state("git", "private"), 0o755},
		{state("goproxy"), 0o755},
		// Pods with a user namespace of their own walk through it as an unprivileged user.
		{state("containerd"), 0o711},
	} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return err
		}
		if err := os.Chmod(dir.path, dir.mode); err != nil {
			return err
		}
	}
	os.Remove(state("bin"))
	if err := os.Symlink(bin, state("bin")); err != nil {
		return err
	}
	files := map[string]string{
		state("resolv.conf"): "# The sandbox reaches nothing outside it, so there is nobody to ask.\nnameserver " + dnsIP + "\noptions timeout:1 attempts:1\n",
		state("hosts"): "127.0.0.1 localhost\n::1 localhost\n" +
			nodeIP + " " + strings.Join([]string{nodeName, registryName, gitName, modulesName}, " ") + "\n",
		state("config", "containerd.toml"):  containerdConfig(),
		state("config", "registry.yaml"):    registryConfig(),
		state("cni", "10-whittle.conflist"): cniConfig(),
	}
	for host := range mirrored {
		files[state("config", "registries", host, "hosts.toml")] = hostsToml(nodeIP + ":" + registryPort)
	}
	files[state("config", "registries", registryName+":"+registryPort, "hosts.toml")] = hostsToml(registryName + ":" + registryPort)
	for name, doc := range map[string]any{"kubelet.json": kubeletConfig(), "kube-proxy.json": kubeProxyConfig()} {
		data, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return err
		}
		files[state("config", name)] = string(data) + "\n"
	}
	for path, text := range files {
		if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mirrored are the public registries whose images the local one serves.
var mirrored = map[string]bool{"docker.io": true, "gcr.io": true, "registry.k8s.io": true}

func hostsToml(address string) string {
	return fmt.Sprintf("server = \"http://%[1]s\"\n\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", address)
}

func containerdConfig() string {
	return fmt.Sprintf(`version = 3
root = %q
state = "/run/containerd"

[grpc]
  address = %q

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = 'registry.k8s.io/pause:%s'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = %q

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE no process may lower its own score, and no Pod would start.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = %q
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%q]
    conf_dir = %q
`, state("containerd"), containerdSocket, pauseTag, state("config", "registries"), state("bin", "runc"), cniDir(), state("cni"))
}

// cniConfig wires each Pod to the node by a link and a route of its own. Pod-to-Pod traffic is then
// routed, not bridged, so Services work without the kernel's bridge filter.
func cniConfig() string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "whittle",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-addresses",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, podCIDR)
}

func registryConfig() string {
	return fmt.Sprintf(`version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: %s
  delete:
    enabled: true
  cache:
    blobdescriptor: inmemory
http:
  addr: %s:%s
  # Seen as %s by Pods and as %s by the host.
  relativeurls: true
`, state("registry"), nodeIP, registryPort, registryName, hostRegistry)
}

func kubeletConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": nodeIP, "healthzBindAddress": "127.0.0.1",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true},
			"x509": map[string]any{"clientCAFile": pki("ca.crt")},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		"tlsCertFile":   pki("kubelet-server.crt"), "tlsPrivateKeyFile": pki("kubelet-server.key"),
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs", "cgroupRoot": "/" + cgroupRoot, "failCgroupV1": false,
		"clusterDNS": []string{dnsIP}, "clusterDomain": "cluster.local", "resolvConf": "/etc/resolv.conf",
		"volumePluginDir": state("kubelet", "flexvolume"),
		"failSwapOn":      false, "oomScoreAdj": 0,
		// The disk is shared with everything else on the machine: how full it is says nothing about
		// the cluster, and must neither evict Pods nor delete images.
		"evictionHard": map[string]string{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"serializeImagePulls": false, "registryPullQPS": 0,
		// 0 is not "no limit" for Events, as its documentation has it: client-go makes 5 of it.
		"eventRecordQPS": 200, "eventBurst": 400,
		"kubeAPIQPS": 200, "kubeAPIBurst": 400,
	}
}

func kubeProxyConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"clientConnection": map[string]any{"kubeconfig": pki("kube-proxy.kubeconfig")},
		"hostnameOverride": nodeName, "bindAddress": nodeIP,
		"healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
		"mode": "nftables", "clusterCIDR": podCIDR, "detectLocalMode": "ClusterCIDR", "nodePortAddresses": []string{"primary"},
		"oomScoreAdj": 0,
		"nftables":    map[string]any{"minSyncPeriod": "100ms", "syncPeriod": "30s"},
		// The connection table is the whole machine's.
		"conntrack": map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}
}

func nodeComponents() []component {
	bin := func(name string) string { return state("bin", name) }
	config := func(name string) string { return state("config", name) }
	health := func(url string) func(context.Context) error {
		return func(ctx context.Context) error {
			k, err := newKube(url, "health")
			if err != nil {
				return err
			}
			_, err = k.get(ctx, "")
			return err
		}
	}
	plain := func(url string) func(context.Context) error {
		return func(ctx context.Context) error {
			code, _, err := request(ctx, http.MethodGet, url, "", nil, 0)
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%s answered %d", url, code)
			}
			return err
		}
	}
	return []component{
		{
			name: "etcd",
			argv: []string{bin("etcd"), "--name=" + nodeName, "--data-dir=" + state("etcd"),
				"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
				"--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380",
				"--initial-cluster=" + nodeName + "=https://127.0.0.1:2380", "--listen-metrics-urls=http://127.0.0.1:2381",
				"--client-cert-auth", "--trusted-ca-file=" + pki("etcd-ca.crt"), "--cert-file=" + pki("etcd-server.crt"), "--key-file=" + pki("etcd-server.key"),
				"--peer-client-cert-auth", "--peer-trusted-ca-file=" + pki("etcd-ca.crt"), "--peer-cert-file=" + pki("etcd-peer.crt"), "--peer-key-file=" + pki("etcd-peer.key"),
				// It is a throwaway cluster: a power cut may lose it.
				"--unsafe-no-fsync", "--log-level=warn"},
			ready: plain("http://127.0.0.1:2381/readyz"),
		},
		{
			name: "kube-apiserver", needs: []string{"etcd"},
			argv: []string{bin("kube-apiserver"), "--advertise-address=" + nodeIP, "--bind-address=" + nodeIP, "--secure-port=" + apiPort,
				"--allow-privileged=true", "--anonymous-auth=false", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
				"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
				"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile=" + pki("etcd-ca.crt"), "--etcd-certfile=" + pki("etcd-client.crt"), "--etcd-keyfile=" + pki("etcd-client.key"),
				"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
				"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
				"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
				"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
				"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
				"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file=" + pki("service-account.pub"), "--service-account-signing-key-file=" + pki("service-account.key"),
				"--service-cluster-ip-range=" + serviceCIDR},
			// A quarter of its time went into collecting garbage; memory is what this machine has.
			env:   []string{"GOGC=400"},
			ready: health("https://" + nodeIP + ":" + apiPort + "/readyz"),
		},
		{
			name: "kube-controller-manager", needs: []string{"kube-apiserver"},
			argv: []string{bin("kube-controller-manager"), "--kubeconfig=" + pki("controller-manager.kubeconfig"),
				"--authentication-kubeconfig=" + pki("controller-manager.kubeconfig"), "--authorization-kubeconfig=" + pki("controller-manager.kubeconfig"),
				"--bind-address=127.0.0.1", "--tls-cert-file=" + pki("controller-manager.crt"), "--tls-private-key-file=" + pki("controller-manager.key"),
				"--client-ca-file=" + pki("ca.crt"), "--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--root-ca-file=" + pki("ca.crt"),
				"--service-account-private-key-file=" + pki("service-account.key"), "--use-service-account-credentials=true",
				"--flex-volume-plugin-dir=" + state("kubelet", "flexvolume"),
				// The one node has all of it, and says so as nodes do.
				"--allocate-node-cidrs=true", "--cluster-cidr=" + podCIDR, "--node-cidr-mask-size=" + podCIDR[strings.IndexByte(podCIDR, '/')+1:], "--configure-cloud-routes=false",
				"--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false"},
			ready: health("https://127.0.0.1:10257/healthz"),
		},
		{
			name: "kube-scheduler", needs: []string{"kube-apiserver"},
			argv: []string{bin("kube-scheduler"), "--kubeconfig=" + pki("scheduler.kubeconfig"),
				"--authentication-kubeconfig=" + pki("scheduler.kubeconfig"), "--authorization-kubeconfig=" + pki("scheduler.kubeconfig"),
				"--bind-address=127.0.0.1", "--tls-cert-file=" + pki("scheduler.crt"), "--tls-private-key-file=" + pki("scheduler.key"),
				"--client-ca-file=" + pki("ca.crt"), "--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
				"--leader-elect=false", "--profiling=false"},
			ready: health("https://127.0.0.1:10259/healthz"),
		},
		{
			name:  "registry",
			argv:  []string{registryProgram(), "serve", config("registry.yaml")},
			env:   []string{"OTEL_TRACES_EXPORTER=none"},
			ready: plain("http://" + nodeIP + ":" + registryPort + "/v2/"),
		},
		{
			name: "containerd",
			argv: []string{bin("containerd"), "--config", config("containerd.toml"), "--log-level=warn"},
			ready: func(ctx context.Context) error {
				c, err := (&net.Dialer{}).DialContext(ctx, "unix", containerdSocket)
				if err == nil {
					c.Close()
				}
				return err
			},
		},
		{
			name: "kubelet", needs: []string{"kube-apiserver", "containerd"}, privateMounts: true,
			argv: []string{bin("kubelet"), "--config=" + config("kubelet.json"), "--kubeconfig=" + pki("kubelet-client.kubeconfig"),
				"--hostname-override=" + nodeName, "--node-ip=" + nodeIP, "--root-dir=" + state("kubelet"), "--cert-dir=" + state("kubelet", "pki")},
			ready: nodeReady,
		},
		{
			name: "kube-proxy", needs: []string{"kubelet"}, // it waits, ever longer, for its Node to exist
			argv:  []string{bin("kube-proxy"), "--config=" + config("kube-proxy.json")},
			ready: plain("http://127.0.0.1:10256/healthz"),
		},
		{
			// It hears of Pods from containerd, before the API server does.
			name: "netpol", needs: []string{"kube-apiserver", "containerd"}, later: true,
			argv:  []string{bin("netpol"), "--kubeconfig=" + pki("netpol.kubeconfig"), "--node=" + nodeName, "--queue=" + policyQueue},
			ready: enforce,
		},
	}
}

// enforce hands every new connection from or to a Pod to the engine, once it listens: those between Pods, and those from
// Pods to the node's own addresses. The engine's own rules are nftables' `queue`, which some kernels lack. From then on
// nothing passes while the engine is away: without it tests would pass that should not.
func enforce(ctx context.Context) error {
	queues, err := os.ReadFile("/proc/net/netfilter/nfnetlink_queue")
	if err != nil {
		return err
	}
	listens := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), policyQueue+" ") }
	if !slices.ContainsFunc(strings.Split(string(queues), "\n"), listens) {
		return errors.New("it does not listen yet")
	}
	for _, of := range [][]string{{"FORWARD"}, {"INPUT", "-s", podCIDR}} {
		rule := append(of, "-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", policyQueue)
		if exec.CommandContext(ctx, "iptables", append([]string{"-C"}, rule...)...).Run() == nil {
			continue
		}
		if err := runQuietly(command(ctx, "iptables", append([]string{"-I"}, rule...)...)); err != nil {
			return err
		}
	}
	return nil
}

// nodeReady asks, as the kubelet, whether the Node is Ready.
func nodeReady(ctx context.Context) error {
	k, err := newKube("https://"+nodeIP+":"+apiPort, "kubelet-client")
	if err != nil {
		return err
	}
	return k.nodeReady(ctx)
}

func (k *kube) nodeReady(ctx context.Context) error {
	data, err := k.get(ctx, "/api/v1/nodes/"+nodeName)
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(data, &node); err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" {
			if c.Status == "True" {
				return nil
			}
			return fmt.Errorf("the node is not ready: %s", c.Message)
		}
	}
	return errors.New("the node has not reported yet")
}
