package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"text/template"
	"time"
)

//go:embed manifests.yaml
var manifests string

// up brings the cluster up, or finds it up, and writes .cluster/env into the checkout.
func up(ctx context.Context, checkout string, wanted []image) error {
	began := time.Now()
	if os.Geteuid() != 0 {
		return errors.New("the local cluster makes namespaces, mounts and control groups: run make cluster as root")
	}
	unlock, err := lock(ctx, lockFile, func() { fmt.Println("  … waiting for another start or stop of the cluster on this machine") })
	if err != nil {
		return err
	}
	defer unlock()
	b, err := newBuilder(ctx, filepath.Join(checkout, "tests/cluster/components"))
	if err != nil {
		return err
	}
	if s := findSandbox(); s != nil && works(ctx) == nil {
		fmt.Println("The local cluster is already up.")
		version, _ := os.ReadFile(state("version"))
		same := string(version) == versionKey(b)
		if !same {
			fmt.Println("  note: another checkout with other versions started it; for this one's: make cluster-down cluster")
		}
		// An image that this checkout adds is no reason to start anew: others may be using the cluster.
		if same || hasImages(ctx, wanted) != nil {
			if !same {
				s = nil
			}
			if err := refresh(ctx, b, wanted, s); err != nil {
				return err
			}
		}
		return finish(ctx, checkout, began)
	}
	if isDir(stateDir) {
		fmt.Println("  … removing what an earlier cluster left")
	}
	if err := cleanUp(0); err != nil {
		return fmt.Errorf("cleaning up after an earlier cluster: %w", err)
	}
	if err := start(ctx, b, wanted); err != nil {
		if ctx.Err() != nil { // interrupted: as if it had never been started
			return errors.Join(errors.New("interrupted; what was built so far is kept, and nothing else"), cleanUp(0))
		}
		if s := findSandbox(); s != nil {
			s.end(0)
		}
		guardRoutes(false)
		return fmt.Errorf("%w\n  logs: %s", err, state("logs"))
	}
	return finish(ctx, checkout, began)
}

// versionKey names the set of versions that a cluster was started with.
func versionKey(b *builder) string {
	dir, err := b.binDir()
	if err != nil {
		return ""
	}
	return filepath.Base(dir)
}

// estimate is how long a start will take, from what is not in the cache.
func estimate(b *builder, m *imageMaker, wanted []image) int {
	total := 15
	for _, f := range familiesFor(wanted) {
		if !b.cached(f) {
			total += f.seconds * 2 / min(runtime.NumCPU(), 8)
		}
	}
	for _, i := range wanted {
		if !m.cached(i) {
			total += i.seconds * 2 / min(runtime.NumCPU(), 4)
		}
	}
	if len(missingPackages()) > 0 {
		total += 30
	}
	return total
}

func start(ctx context.Context, b *builder, wanted []image) error {
	packages := &apt{}
	maker := &imageMaker{builder: b, apt: packages}
	if left := estimate(b, maker, wanted); left > 60 {
		fmt.Printf("Starting the local cluster. Much is not built yet: about %d minutes on this machine.\n", (left+59)/60)
	} else {
		fmt.Printf("Starting the local cluster: about %d seconds.\n", left)
	}
	bin, err := b.binDir()
	if err != nil {
		return err
	}
	for _, dir := range []string{state("work"), state("logs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := foreignAddresses(); err != nil {
		return err
	}

	t := newTasks(ctx, os.Stdout)
	system := t.run("system packages", nil, func(ctx context.Context) error { return packages.installMissing(ctx) })
	debs := t.run("registry and CNI packages", []*task{system}, packages.unpackDebs)

	built := buildAll(t, b, familiesFor(wanted), system)
	made := makeImages(t, maker, wanted, system, built)

	keys := t.run("keys and certificates", nil, func(context.Context) error {
		if err := writeConfigs(bin); err != nil {
			return err
		}
		if err := os.WriteFile(gitPasswordFile(), []byte(rand.Text()+"\n"), 0o600); err != nil {
			return err
		}
		return writePKI()
	})
	var box *sandbox
	needs := []*task{system, debs, keys}
	for _, name := range []string{"etcd", "kubernetes", "containerd", "runc"} {
		needs = append(needs, built[name])
	}
	sandboxed := t.run("sandbox", needs, func(context.Context) error {
		err := guardRoutes(true)
		if err == nil {
			box, err = startSandbox()
		}
		return err
	})
	ready := map[string]*task{}
	for _, c := range nodeComponents() {
		if c.later && !forTests(wanted) {
			continue
		}
		needs := []*task{sandboxed}
		if c.later {
			needs = append(needs, built[c.name])
		}
		for _, n := range c.needs {
			needs = append(needs, ready[n])
		}
		ready[c.name] = t.run("start "+c.name, needs, func(ctx context.Context) error { return waitFor(ctx, box, c.name) })
	}
	pushed, all := pushImages(t, maker, wanted, made, ready["registry"])
	applied := t.run("cluster objects", []*task{ready["kube-apiserver"], pushed["pause"], pushed["coredns"]}, func(ctx context.Context) error {
		return applyManifests(ctx, bin)
	})
	t.run("start coredns", append(all, applied, ready["kubelet"], ready["kube-proxy"]), func(ctx context.Context) error {
		return pollUntil(ctx, 2*time.Minute, func() error { return healthy(ctx, wanted) })
	})
	if err := t.wait(); err != nil {
		return err
	}
	os.RemoveAll(state("work"))
	return os.WriteFile(state("version"), []byte(versionKey(b)), 0o644)
}

// pushImages pushes each image once it is made.
func pushImages(t *tasks, maker *imageMaker, wanted []image, made map[string]*task, needs ...*task) (pushed map[string]*task, all []*task) {
	pushed = map[string]*task{}
	for _, i := range wanted {
		pushed[i.name] = t.run("push "+i.repo, append([]*task{made[i.name]}, needs...), func(ctx context.Context) error {
			dir, err := maker.dir(i)
			if err != nil {
				return err
			}
			return pushImage(ctx, dir, hostRegistry, i.repo, i.tags)
		})
		all = append(all, pushed[i.name])
	}
	return pushed, all
}

// refresh brings the images of a running cluster to what this checkout's recipes say, and starts what the demo did without
// where it was this checkout's programs that it was started with.
func refresh(ctx context.Context, b *builder, wanted []image, box *sandbox) error {
	if err := os.MkdirAll(state("work"), 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(state("work"))
	packages := &apt{}
	maker := &imageMaker{builder: b, apt: packages}
	t := newTasks(ctx, os.Stdout)
	system := t.run("system packages", nil, func(ctx context.Context) error { return packages.installMissing(ctx) })
	built := buildAll(t, b, familiesFor(wanted), system)
	pushImages(t, maker, wanted, makeImages(t, maker, wanted, system, built))
	for _, c := range nodeComponents() {
		if c.later && box != nil && forTests(wanted) {
			t.run("start "+c.name, []*task{built[c.name]}, func(ctx context.Context) error { return waitFor(ctx, box, c.name) })
		}
	}
	return t.wait()
}

// buildAll builds every family in order, two at a time: one family's linking, which is serial,
// overlaps another's compiling.
func buildAll(t *tasks, b *builder, families []family, system *task) map[string]*task {
	built := map[string]*task{}
	turns := make([]*task, len(families)+2)
	for i := range turns {
		turns[i] = &task{done: make(chan struct{})}
	}
	close(turns[0].done)
	close(turns[1].done)
	var ended atomic.Int32
	for i, f := range families {
		needs := []*task{turns[i]}
		if f.cgo {
			needs = append(needs, system)
		}
		built[f.name] = t.run("build "+f.name, needs, func(ctx context.Context) error {
			err := b.build(ctx, f)
			close(turns[ended.Add(1)+1].done)
			return err
		})
	}
	return built
}

// makeImages makes the images, beside the builds: what is mostly downloading and unpacking fills the
// gaps that compiling leaves.
func makeImages(t *tasks, maker *imageMaker, wanted []image, system *task, built map[string]*task) map[string]*task {
	made := map[string]*task{}
	previous := system
	for _, i := range wanted {
		needs := []*task{system}
		if len(i.debian) > 0 && !maker.cached(i) {
			previous = t.run("Debian for "+i.name, []*task{previous}, func(ctx context.Context) error {
				return debian(ctx, i)
			})
			needs = append(needs, previous)
		}
		for _, u := range i.uses {
			needs = append(needs, built[u])
		}
		made[i.name] = t.run("image "+i.name, needs, func(ctx context.Context) error { return maker.ensure(ctx, i) })
	}
	return made
}

// waitFor waits until the supervisor reports a component ready.
func waitFor(ctx context.Context, box *sandbox, name string) error {
	err := pollUntil(ctx, 3*time.Minute, func() error {
		if !box.alive() {
			return errGaveUp{errors.New("the sandbox ended"), "supervisor"}
		}
		var all map[string]componentStatus
		data, err := os.ReadFile(statusFile())
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &all); err != nil {
			return err
		}
		st := all[name]
		switch {
		case st.State == "ready":
			return nil
		case st.Restarts >= 5:
			return errGaveUp{fmt.Errorf("it ended %d times: %s", st.Restarts, st.Error), name}
		}
		return errors.New("it is still " + st.State)
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	log := name
	var gaveUp errGaveUp
	if errors.As(err, &gaveUp) {
		log = gaveUp.log
	}
	text, _ := os.ReadFile(logPath(log))
	return fmt.Errorf("%w\n  the end of %s:\n%s", err, logPath(log), indentTail(string(text), 12))
}

// errGaveUp says that waiting longer is of no use, and which log tells why.
type errGaveUp struct {
	error
	log string
}

func applyManifests(ctx context.Context, bin string) error {
	parsed, err := template.New("manifests").Parse(manifests)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]string{
		"NodeIP": nodeIP, "DNS": dnsIP, "CoreDNS": coreDNSTag, "Names": strings.Join([]string{registryName, gitName, modulesName}, " "),
	})
	if err != nil {
		return err
	}
	cmd := command(ctx, filepath.Join(bin, "kubectl"), "--kubeconfig="+state("kubeconfig"), "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = &text
	return runQuietly(cmd)
}

// healthy tells whether the whole cluster works and has these images, seen from the host.
func healthy(ctx context.Context, wanted []image) error {
	if err := works(ctx); err != nil {
		return err
	}
	return hasImages(ctx, wanted)
}

// hasImages tells whether the registry has these images.
func hasImages(ctx context.Context, wanted []image) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, i := range wanted {
		code, _, err := request(ctx, "HEAD", "http://"+hostRegistry+"/v2/"+i.repo+"/manifests/"+i.tags[0], "", nil, 0)
		if err != nil {
			return err
		}
		if code != 200 {
			return fmt.Errorf("the registry lacks %s:%s", i.repo, i.tags[0])
		}
	}
	return nil
}

// works tells whether the cluster itself works: API server, node and name service.
func works(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	k, err := newKube("https://"+hostAPI, "admin")
	if err != nil {
		return err
	}
	if _, err := k.get(ctx, "/readyz"); err != nil {
		return err
	}
	if err := k.nodeReady(ctx); err != nil {
		return err
	}
	data, err := k.get(ctx, "/apis/apps/v1/namespaces/kube-system/deployments/coredns")
	if err != nil {
		return err
	}
	var deployment struct {
		Status struct{ AvailableReplicas int }
	}
	if err := json.Unmarshal(data, &deployment); err != nil {
		return err
	}
	if deployment.Status.AvailableReplicas == 0 {
		return errors.New("CoreDNS is not available yet; next: kubectl -n kube-system describe pods")
	}
	return nil
}

// finish writes .cluster/env and says what to do with it.
func finish(ctx context.Context, checkout string, began time.Time) error {
	if err := serveSamples(ctx, filepath.Join(checkout, "config/samples/sources")); err != nil {
		return err
	}
	dir := filepath.Join(checkout, ".cluster")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	bin, err := os.Readlink(state("bin"))
	if err != nil {
		return err
	}
	kubeconfig, err := os.ReadFile(state("kubeconfig"))
	if err != nil {
		return err
	}
	if err := writeFileAtomic(filepath.Join(dir, "kubeconfig"), kubeconfig, 0o600); err != nil {
		return err
	}
	if err := writeFileAtomic(filepath.Join(dir, ".gitignore"), []byte("*\n"), 0o644); err != nil {
		return err
	}
	if err := writeFileAtomic(filepath.Join(dir, "env"), []byte(environment(dir, bin)), 0o644); err != nil {
		return err
	}
	fmt.Printf("The local cluster is ready after %s.\n  next: . .cluster/env && kubectl get pods -A\n", seconds(time.Since(began)))
	return nil
}

func environment(dir, bin string) string {
	var text strings.Builder
	text.WriteString("# Written by `make cluster`; source it.\n")
	for _, v := range [][2]string{
		{"KUBECONFIG", filepath.Join(dir, "kubeconfig")},
		{"REGISTRY_HOST", hostRegistry},
		{"REGISTRY", registryName + ":" + registryPort},
		{"GIT_URL", "http://" + gitName + ":" + gitPort},
		{"GIT_HOST_URL", "http://" + hostGit},
		{"GIT_REPOSITORIES", state("git")},
		{"REGISTRY_PROGRAM", registryProgram()},
		{"GIT_USER", gitUser},
		{"GIT_PASSWORD_FILE", gitPasswordFile()},
		{"GOPROXY_URL", "http://" + modulesName + ":" + modulesPort},
		{"GOPROXY_DIR", state("goproxy")},
		{"MODULES_LOG", logPath("modules-access")},
		{"KUBELET_PATH", state("kubelet")},
		{"BUILDER_EGRESS", builderEgress},
		{"CLUSTER_BIN", bin},
	} {
		fmt.Fprintf(&text, "export %s=%s\n", v[0], shellQuote(v[1]))
	}
	// git itself heeds GIT_DIR, so programs that this shell starts must not see it.
	fmt.Fprintf(&text, "GIT_DIR=%s # for this shell only: not exported, because git would take it as its own\n", shellQuote(state("git")))
	text.WriteString("case \":$PATH:\" in *\":$CLUSTER_BIN:\"*) ;; *) export PATH=\"$CLUSTER_BIN:$PATH\" ;; esac\n")
	return text.String()
}

// shellQuote leaves a plain word alone and quotes anything else.
func shellQuote(s string) string {
	plain := !slices.ContainsFunc([]rune(s), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:=@", r))
	})
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// down ends the cluster and leaves nothing of it but the caches.
func down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("run make cluster-down as root")
	}
	unlock, err := lock(ctx, lockFile, func() { fmt.Println("  … waiting for another start or stop of the cluster on this machine") })
	if err != nil {
		return err
	}
	defer unlock()
	began := time.Now()
	was := isDir(stateDir)
	if err := cleanUp(30 * time.Second); err != nil {
		return err
	}
	if !was {
		fmt.Println("No local cluster is up.")
		return nil
	}
	fmt.Printf("The local cluster is down after %s. What was built stays in %s.\n", seconds(time.Since(began)), cacheDir())
	return nil
}

func status(ctx context.Context) error {
	s := findSandbox()
	if s == nil {
		return errors.New("no local cluster is up; next: make cluster")
	}
	var all map[string]componentStatus
	data, err := os.ReadFile(statusFile())
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	for _, c := range nodeComponents() {
		st := all[c.name]
		line := fmt.Sprintf("%-24s %s", c.name, st.State)
		if st.Restarts > 0 {
			line += fmt.Sprintf(", started again %d times", st.Restarts)
		}
		if st.Error != "" {
			line += ": " + st.Error
		}
		fmt.Println(line)
	}
	if err := healthy(ctx, demoImages); err != nil {
		return fmt.Errorf("the cluster does not work: %w\n  logs: %s", err, state("logs"))
	}
	fmt.Println("The cluster works.")
	return nil
}
